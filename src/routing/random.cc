#include <algorithm>

#include "routing/draw.h"
#include "routing/select.h"

// K distinct experts, uniformly, by position and seed, weights 1/K: what no router at all costs and
// gives. The logits do not matter, but are checked as in every strategy.

namespace switchyard {
namespace {

void route_random(Context& context, const RouterInput& input, const RouterParams& params,
                  Routing& routing) {
  const int k = params.top_k, num_experts = static_cast<int>(input.logits.cols);
  check_logits(context, input);
  shape_top_k(input, k, routing);
  pool_of(context).for_ranges(
      input.logits.rows, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t t = begin; t < end; ++t) {
          draw_distinct(params.seed, kRandomPurpose, static_cast<std::uint64_t>(t), k, num_experts,
                        routing.expert.data() + t * k);
        }
      });
  std::fill(routing.weight.begin(), routing.weight.end(), 1.0f / static_cast<float>(k));
}

}  // namespace

Strategy random_strategy() {
  return {.name = "random",
          .summary = "K distinct experts drawn uniformly, weights 1/K",
          .source = "control",
          .causal = true,
          .route = route_random,
          .knobs = "top_k, seed"};
}

}  // namespace switchyard
