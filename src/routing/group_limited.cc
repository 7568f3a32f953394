#include "routing/groups.h"
#include "routing/select.h"

// Softmax over all experts; a group scores its best expert, topk_group of n_group groups are kept
// and the top K is taken among them. Weights are probabilities, renormalised with norm_topk, times
// routed_scaling_factor. Softmax keeps the order of the logits, so the logits choose.
// DeepSeek-V2, arXiv 2405.04434.

namespace switchyard {
namespace {

void route_group_limited(Context& context, const RouterInput& input, const RouterParams& params,
                         Routing& routing) {
  const int k = params.top_k, num_experts = static_cast<int>(input.logits.cols);
  const TopkKernel topk = topk_variant(context.isa()).topk;
  Arena::Scope scope(arena_of(context));
  const GroupScratchOfThreads scratch(scope, context.threads(), num_experts, params);
  for_token_blocks(
      context, input, k, kGroupBlock, routing, [&](std::int64_t t, int count, int thread) {
        float max[kGroupBlock], sum[kGroupBlock], best_weight[kGroupBlock];
        std::int32_t best[kGroupBlock];
        Block all{t, count, 1, best, best_weight, max, sum};
        const std::int64_t token = select_block(topk, input, 1.0f, all, max, sum);
        if (token >= 0) return token;
        Block block{t,   count, k, routing.expert.data() + t * k, routing.weight.data() + t * k,
                    max, sum};
        const float* x = logits_of(input, t);
        select_in_groups(topk, GroupScore::best, x, input.logits.row_stride, count, num_experts,
                         params, scratch[thread], block.expert, block.weight, max);
        weigh_infinite(input, block);
        if (params.norm_topk) {
          normalise(block.weight, count, k, 0.0f, params.routed_scaling_factor);
        } else {
          divide_by_sum(block, params.routed_scaling_factor);
        }
        return token;
      });
}

}  // namespace

Strategy group_limited_strategy() {
  return {.name = "group_limited",
          .summary =
              "softmax, the best topk_group of n_group groups by their best expert, top K "
              "among them",
          .source = "DeepSeek-V2, arXiv 2405.04434",
          .causal = true,
          .route = route_group_limited,
          .knobs = "top_k, norm_topk, n_group, topk_group, routed_scaling_factor",
          .fuses = true};
}

}  // namespace switchyard
