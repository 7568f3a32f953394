#include <optional>

#include "base/check.h"
#include "cuda/device_layout.h"
#include "cuda/gpu.h"
#include "routing/draw.h"
#include "routing/route_device.h"
#include "routing/select_device.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

using select_cuda::SelectRule;
using select_cuda::SelectWeights;

// Tokens and assignments are numbered in 31 bits.
constexpr std::int64_t kMaxAssignments = 2147483647;

struct DeviceRule {
  std::string_view strategy;
  SelectRule (*rule)(const RouterParams& params);
  bool is_noisy = false;  ///< of logits that noise has been added to
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

SelectRule drawn_by(std::uint32_t purpose, const RouterParams& params) {
  return {.k = params.top_k,
          .weights = SelectWeights::uniform,
          .factor = 1.0f / static_cast<float>(params.top_k),
          .draws = purpose,
          .seed = params.seed};
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
    {"hash", [](const RouterParams& params) { return drawn_by(kHashPurpose, params); }},
    {"random",
     [](const RouterParams& params) {
       SelectRule rule = drawn_by(kRandomPurpose, params);
       rule.by_position = true;
       return rule;
     }},
    {"noisy_topk",
     [](const RouterParams& params) -> SelectRule {
       return {.k = params.top_k, .normalise = true};
     },
     true},
};

const DeviceRule* find_rule(std::string_view strategy) noexcept {
  for (const DeviceRule& rule : kRules) {
    if (rule.strategy == strategy) return &rule;
  }
  return nullptr;
}

/// The logits with noise, in scratch.
ConstMatrixView add_noise(cuda::Gpu& gpu, cuda::DeviceScope& scope, const RouterInput& input,
                          const RouterParams& params) {
  const ConstMatrixView& x = input.logits;
  auto* noisy = scope.take<float>(x.rows * x.cols);
  select_cuda::add_noise_on_device(
      gpu, {.logits = reinterpret_cast<const float*>(x.data),
            .row_stride = x.row_stride,
            .noise = reinterpret_cast<const float*>(input.noise_logits.data),
            .noise_stride = input.noise_logits.row_stride,
            .noise_std = params.noise_std,
            .seed = params.seed,
            .num_tokens = x.rows,
            .num_experts = static_cast<int>(x.cols),
            .noisy = noisy});
  return {
      reinterpret_cast<const std::byte*>(noisy), DType::f32, x.rows, x.cols, x.cols, Device::cuda};
}

/// Why a strategy is not among the rules: what it decides by.
std::string reason_against(const Strategy& strategy) {
  std::string names;
  for (const DeviceRule& rule : kRules) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", rule.strategy);
  }
  return fmt::format(
      "strategy '{}' {} and runs on the CPU only: on a device are those that look at one token, {}",
      strategy.name,
      strategy.is_soft() ? "mixes all tokens"
      : strategy.causal  ? "is not among the library's rules for a device"
                         : "decides by all tokens of a batch",
      names);
}

}  // namespace

bool routes_on_device(const Strategy& strategy) noexcept {
  return find_rule(strategy.name) != nullptr;
}

void require_routes_on_device(const Strategy& strategy) {
  if (find_rule(strategy.name) == nullptr) {
    throw Error(ErrorCode::unavailable, reason_against(strategy));
  }
}

void route(Context& context, const Strategy& strategy, const RouterInput& input,
           const RouterParams& params, DeviceRouting& routing) {
  require_routes_on_device(strategy);
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const DeviceRule& strategy_rule = *find_rule(strategy.name);
  validate_device_input(input, params);
  const int num_experts = static_cast<int>(input.logits.cols);
  const SelectRule rule = strategy_rule.rule(params);
  require(num_experts <= select_cuda::kMaxExperts, "logits have {} columns: a device selects of {}",
          num_experts, select_cuda::kMaxExperts);
  require(rule.k <= select_cuda::kMaxTopK, "top_k is {}: a device selects at most {}", rule.k,
          select_cuda::kMaxTopK);
  const std::int64_t tokens = input.logits.rows;
  require(tokens <= kMaxAssignments / rule.k,
          "{} tokens with {} experts each are more than {} assignments", tokens, rule.k,
          kMaxAssignments);
  cuda::shape_routing(context, tokens, num_experts, tokens * rule.k, rule.k, routing);
  if (tokens == 0) {
    gpu.fill(const_cast<std::int64_t*>(routing.token_begin), 0, sizeof(std::int64_t));
    return;
  }
  cuda::DeviceScope scope(gpu);
  ConstMatrixView logits = input.logits;
  if (strategy_rule.is_noisy) logits = add_noise(gpu, scope, input, params);
  select_cuda::select_on_device(
      gpu,
      {.logits = reinterpret_cast<const float*>(logits.data),
       .row_stride = logits.row_stride,
       .num_tokens = tokens,
       .num_experts = num_experts,
       .bias = input.bias.empty() ? nullptr : input.bias.data(),
       .token_ids = rule.by_position || input.token_ids.empty() ? nullptr : input.token_ids.data(),
       .rule = rule,
       .token_begin = const_cast<std::int64_t*>(routing.token_begin),
       .expert = routing.expert,
       .weight = routing.weight,
       .bad_token_of_chunk = routing.bad_token_of_chunk,
       .count_of_chunk = routing.count_of_chunk});
}

}  // namespace switchyard
