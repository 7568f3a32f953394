#include <algorithm>

#include "routing/draw.h"
#include "routing/select.h"

// K distinct experts drawn by the token's vocabulary id (its position where no ids are given) and
// the seed, weights 1/K. The logits do not matter, but are checked as in every strategy. Hash
// layers: Roller et al. 2021, arXiv 2106.04426.

namespace switchyard {
namespace {

void route_hash(Context& context, const RouterInput& input, const RouterParams& params,
                Routing& routing) {
  const int k = params.top_k, num_experts = static_cast<int>(input.logits.cols);
  check_logits(context, input);
  shape_top_k(input, k, routing);
  pool_of(context).for_ranges(
      input.logits.rows, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t t = begin; t < end; ++t) {
          const std::int64_t id =
              input.token_ids.empty() ? t : input.token_ids[static_cast<std::size_t>(t)];
          draw_distinct(params.seed, kHashPurpose, static_cast<std::uint64_t>(id), k, num_experts,
                        routing.expert.data() + t * k);
        }
      });
  std::fill(routing.weight.begin(), routing.weight.end(), 1.0f / static_cast<float>(k));
}

}  // namespace

Strategy hash_strategy() {
  return {.name = "hash",
          .summary = "K experts by hash of the token id (or position), weights 1/K",
          .source = "Hash layers, Roller et al. 2021, arXiv 2106.04426",
          .causal = true,
          .route = route_hash,
          .knobs = "top_k, seed"};
}

}  // namespace switchyard
