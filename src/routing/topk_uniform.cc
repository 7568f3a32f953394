#include <algorithm>

#include "routing/select.h"

// The K largest logits, weights 1/K: a baseline that isolates choice from weighting.

namespace switchyard {
namespace {

void route_topk_uniform(Context& context, const RouterInput& input, const RouterParams& params,
                        Routing& routing) {
  select_top_k(context, input, params.top_k, 1.0f, false, nullptr, routing, [](const Block& block) {
    std::fill_n(block.weight, block.count * block.k, 1.0f / static_cast<float>(block.k));
  });
}

}  // namespace

Strategy topk_uniform_strategy() {
  return {.name = "topk_uniform",
          .summary = "the K largest logits, weights 1/K",
          .source = "baseline",
          .causal = true,
          .route = route_topk_uniform,
          .knobs = "top_k",
          .fuses = true};
}

}  // namespace switchyard
