#include "routing/select.h"

// The most probable expert, weighted by its probability: top_k does not matter.
// Switch Transformer: Fedus et al. 2021, arXiv 2101.03961.

namespace switchyard {
namespace {

void route_top1(Context& context, const RouterInput& input, const RouterParams&, Routing& routing) {
  select_top_k(context, input, 1, 1.0f, true, nullptr, routing,
               [](const Block& block) { divide_by_sum(block, 1.0f); });
}

}  // namespace

Strategy top1_strategy() {
  return {.name = "top1",
          .summary = "the most probable expert, weighted by its probability; top_k is not used",
          .source = "Switch Transformer, Fedus et al. 2021, arXiv 2101.03961",
          .causal = true,
          .route = route_top1,
          .fuses = true};
}

}  // namespace switchyard
