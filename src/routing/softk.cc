#include "routing/select.h"

// The K largest logits, weights softmax(logit / temperature) over those K. At temperature 1 it is
// topk_softmax with norm_topk.

namespace switchyard {
namespace {

void route_softk(Context& context, const RouterInput& input, const RouterParams& params,
                 Routing& routing) {
  select_top_k(context, input, params.top_k, 1.0f / params.temperature, false, &kShareOfOne,
               routing, [](const Block&) {});
}

}  // namespace

Strategy softk_strategy() {
  return {.name = "softk",
          .summary = "the K largest logits, weights softmax(logit / temperature) over them",
          .source = "moe-routing-bench",
          .causal = true,
          .route = route_softk,
          .knobs = "top_k, temperature",
          .fuses = true};
}

}  // namespace switchyard
