#include <limits>

#include "routing/groups.h"
#include "routing/select.h"

// s = sigmoid(x). Experts are chosen by s + b; a group scores the sum of its best two, topk_group
// of n_group groups are kept and the top K is taken among them. Weights are s without b, normalised
// (norm_topk) by their sum + 1e-20, times routed_scaling_factor.
// DeepSeek-V3, arXiv 2412.19437; b is moved after each step so that loads even out (Wang et al.
// 2024, arXiv 2408.15664). A logit of +inf is chosen before any finite one, whatever b; -inf after.

namespace switchyard {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kEpsilon = 1e-20f;
// The scores of infinite logits. In a group's sum, +inf outweighs -inf and both any biased sigmoid.
constexpr float kForced = 3e38f;
constexpr float kMasked = -1e38f;

void add_bias(const float* x, const float* s, std::span<const float> bias, int num_experts,
              float* score) noexcept {
  for (int e = 0; e < num_experts; ++e) {
    const float sum = s[e] + (bias.empty() ? 0.0f : bias[static_cast<std::size_t>(e)]);
    score[e] = x[e] == kInfinity ? kForced : x[e] == -kInfinity ? kMasked : sum;
  }
}

void route_sigmoid_bias(Context& context, const RouterInput& input, const RouterParams& params,
                        Routing& routing) {
  const int k = params.top_k, num_experts = static_cast<int>(input.logits.cols);
  const TopkVariant& kernels = topk_variant(context.isa());
  Arena::Scope scope(arena_of(context));
  const GroupScratchOfThreads scratch(scope, context.threads(), num_experts, params);
  const std::int64_t block_size = std::int64_t{kGroupBlock} * num_experts;
  const auto sigmoids = scope.take<float>(context.threads() * block_size);
  const auto scores = scope.take<float>(context.threads() * block_size);
  for_token_blocks(context, input, k, kGroupBlock, routing,
                   [&](std::int64_t t, int count, int thread) -> std::int64_t {
                     float* s = sigmoids.data() + thread * block_size;
                     float* score = scores.data() + thread * block_size;
                     for (int row = 0; row < count; ++row) {
                       const float* x = logits_of(input, t + row);
                       const std::int64_t at = std::int64_t{row} * num_experts;
                       if (kernels.sigmoid(x, num_experts, s + at)) return t + row;
                       add_bias(x, s + at, input.bias, num_experts, score + at);
                     }
                     float max[kGroupBlock];
                     std::int32_t* expert = routing.expert.data() + t * k;
                     float* weight = routing.weight.data() + t * k;
                     select_in_groups(kernels.topk, GroupScore::best_two, score, num_experts, count,
                                      num_experts, params, scratch[thread], expert, weight, max);
                     for (int row = 0; row < count; ++row) {
                       if (max[row] == kMasked) return t + row;
                     }
                     for (int i = 0; i < count * k; ++i) {
                       weight[i] = s[static_cast<std::int64_t>(i / k) * num_experts + expert[i]];
                     }
                     if (params.norm_topk) {
                       normalise(weight, count, k, kEpsilon, params.routed_scaling_factor);
                     } else {
                       for (int i = 0; i < count * k; ++i)
                         weight[i] *= params.routed_scaling_factor;
                     }
                     return -1;
                   });
}

}  // namespace

Strategy sigmoid_bias_strategy() {
  return {.name = "sigmoid_bias",
          .summary = "top K of sigmoid + bias within the best topk_group of n_group groups",
          .source = "DeepSeek-V3, arXiv 2412.19437",
          .causal = true,
          .route = route_sigmoid_bias,
          .affinity = Affinity::sigmoid,
          .knobs = "top_k, norm_topk, n_group, topk_group, routed_scaling_factor",
          .fuses = true};
}

}  // namespace switchyard
