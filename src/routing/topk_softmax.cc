#include "routing/select.h"

// Softmax over all experts, the K largest probabilities; with norm_topk a token's K weights are
// renormalised, which equals a softmax over its K logits.
// Shazeer et al. 2017, arXiv 1701.06538. Mixtral and Qwen3 renormalise, OLMoE does not.

namespace switchyard {
namespace {

void route_topk_softmax(Context& context, const RouterInput& input, const RouterParams& params,
                        Routing& routing) {
  const bool over_all = !params.norm_topk;
  select_top_k(context, input, params.top_k, 1.0f, over_all, over_all ? nullptr : &kShareOfOne,
               routing, [&](const Block& block) {
                 if (over_all) divide_by_sum(block, 1.0f);
               });
}

}  // namespace

Strategy topk_softmax_strategy() {
  return {.name = "topk_softmax",
          .summary = "the K most probable experts, weights renormalised (norm_topk) or as they are",
          .source = "Shazeer et al. 2017, arXiv 1701.06538",
          .causal = true,
          .route = route_topk_softmax,
          .knobs = "top_k, norm_topk",
          .fuses = true};
}

}  // namespace switchyard
