#include <optional>

#include "base/check.h"
#include "cuda/device_layout.h"
#include "cuda/gpu.h"
#include "routing/route_device.h"
#include "routing/select_device.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

using select_cuda::SelectRule;
using select_cuda::SelectWeights;

struct DeviceRule {
  std::string_view strategy;
  SelectRule (*rule)(const RouterParams& params);
};

SelectRule with_groups(SelectRule rule, const RouterParams& params) {
  rule.groups = params.n_group;
  rule.groups_kept = params.topk_group;
  rule.factor = params.routed_scaling_factor;
  return rule;
}

SelectWeights weights_by_norm(const RouterParams& params) {
  return params.norm_topk ? SelectWeights::over_chosen : SelectWeights::over_all;
}

constexpr DeviceRule kRules[] = {
    {"topk_softmax",
     [](const RouterParams& params) -> SelectRule {
       return {
           .k = params.top_k, .weights = weights_by_norm(params), .normalise = params.norm_topk};
     }},
    {"top1",
     [](const RouterParams&) -> SelectRule {
       return {.k = 1, .weights = SelectWeights::over_all};
     }},
    {"topk_uniform",
     [](const RouterParams& params) -> SelectRule {
       return {.k = params.top_k,
               .weights = SelectWeights::uniform,
               .factor = 1.0f / static_cast<float>(params.top_k)};
     }},
    {"softk",
     [](const RouterParams& params) -> SelectRule {
       return {.k = params.top_k, .normalise = true, .scale = 1.0f / params.temperature};
     }},
    {"sigmoid_bias",
     [](const RouterParams& params) -> SelectRule {
       return with_groups({.k = params.top_k,
                           .is_sigmoid = true,
                           .best_two = true,
                           .normalise = params.norm_topk,
                           .epsilon = 1e-20f},
                          params);
     }},
    {"group_limited",
     [](const RouterParams& params) -> SelectRule {
       return with_groups(
           {.k = params.top_k, .weights = weights_by_norm(params), .normalise = params.norm_topk},
           params);
     }},
};

const DeviceRule* find_rule(std::string_view strategy) noexcept {
  for (const DeviceRule& rule : kRules) {
    if (rule.strategy == strategy) return &rule;
  }
  return nullptr;
}

}  // namespace

bool routes_on_device(const Strategy& strategy) noexcept {
  return find_rule(strategy.name) != nullptr;
}

void route(Context& context, const Strategy& strategy, const RouterInput& input,
           const RouterParams& params, DeviceRouting& routing) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const DeviceRule* found = find_rule(strategy.name);
  if (found == nullptr) {
    throw Error(ErrorCode::unavailable,
                fmt::format("strategy '{}' runs on the CPU only: on a device are topk_softmax, "
                            "top1, topk_uniform, softk, sigmoid_bias and group_limited",
                            strategy.name));
  }
  validate_device_input(input, params);
  const int num_experts = static_cast<int>(input.logits.cols);
  const SelectRule rule = found->rule(params);
  require(num_experts <= select_cuda::kMaxExperts, "logits have {} columns: a device selects of {}",
          num_experts, select_cuda::kMaxExperts);
  require(rule.k <= select_cuda::kMaxTopK, "top_k is {}: a device selects at most {}", rule.k,
          select_cuda::kMaxTopK);
  const std::int64_t tokens = input.logits.rows;
  cuda::shape_routing(context, tokens, num_experts, tokens * rule.k, rule.k, routing);
  if (tokens == 0) {
    gpu.fill(const_cast<std::int64_t*>(routing.token_begin), 0, sizeof(std::int64_t));
    return;
  }
  select_cuda::select_on_device(gpu, {.logits = reinterpret_cast<const float*>(input.logits.data),
                                      .row_stride = input.logits.row_stride,
                                      .num_tokens = tokens,
                                      .num_experts = num_experts,
                                      .bias = input.bias.empty() ? nullptr : input.bias.data(),
                                      .rule = rule,
                                      .token_begin = const_cast<std::int64_t*>(routing.token_begin),
                                      .expert = routing.expert,
                                      .weight = routing.weight,
                                      .bad_token_of_chunk = routing.bad_token_of_chunk,
                                      .count_of_chunk = routing.count_of_chunk});
}

}  // namespace switchyard
