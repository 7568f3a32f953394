#include "plan/drop_policy.h"

#include <algorithm>

#include "base/context.h"

namespace switchyard {
namespace {

/// The assignments of crowded experts, grouped by expert, in token order.
struct Crowd {
  std::span<std::int64_t> begin;       ///< [E+1] of an expert's assignments; empty: not crowded
  std::span<std::int32_t> assignment;  ///< [begin[E]]
};

Crowd gather_crowd(Context& context, Arena::Scope& scope, const Routing& routing,
                   std::int64_t capacity, const Ranking& ranking) {
  const std::int64_t num_experts = routing.num_experts;
  Crowd crowd{scope.take<std::int64_t>(num_experts + 1), {}};
  crowd.begin[0] = 0;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const std::int64_t assigned = ranking.assigned[e];
    crowd.begin[e + 1] = crowd.begin[e] + (assigned > capacity ? assigned : 0);
  }
  crowd.assignment = scope.take<std::int32_t>(crowd.begin[num_experts]);
  const TokenRanges ranges = ranking.ranges;
  pool_of(context).for_each(ranges.count, [&](std::int64_t range, int) {
    const std::int32_t* base = ranking.base.data() + range * num_experts;
    const std::int64_t end = routing.token_begin[ranges.end(range)];
    for (std::int64_t a = routing.token_begin[ranges.begin(range)]; a < end; ++a) {
      const std::int32_t e = routing.expert[a];
      if (ranking.assigned[e] <= capacity) continue;
      crowd.assignment[crowd.begin[e] + base[e] + ranking.rank[a]] = static_cast<std::int32_t>(a);
    }
  });
  return crowd;
}

}  // namespace

void rank_largest_weights(Context& context, const Routing& routing, std::int64_t capacity,
                          const Ranking& ranking) {
  Arena::Scope scope(arena_of(context));
  const std::int64_t num_experts = routing.num_experts;
  const Crowd crowd = gather_crowd(context, scope, routing, capacity, ranking);
  const auto by_weight = scope.take<std::int32_t>(crowd.begin[num_experts]);
  // A total order: within an expert a lower assignment is a lower token.
  const auto is_better = [&](std::int32_t a, std::int32_t b) {
    const float weight_a = routing.weight[a], weight_b = routing.weight[b];
    return weight_a > weight_b || (weight_a == weight_b && a < b);
  };
  pool_of(context).for_each(num_experts, [&](std::int64_t e, int) {
    const std::int64_t begin = crowd.begin[e], end = crowd.begin[e + 1];
    if (begin == end) return;
    for (std::int64_t range = 0; range < ranking.ranges.count; ++range) {
      ranking.base[range * num_experts + e] = 0;
    }
    std::copy(crowd.assignment.begin() + begin, crowd.assignment.begin() + end,
              by_weight.begin() + begin);
    const auto cut = by_weight.begin() + begin + capacity;
    std::nth_element(by_weight.begin() + begin, cut, by_weight.begin() + end, is_better);
    std::int32_t kept = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int32_t a = crowd.assignment[i];
      ranking.rank[a] = is_better(a, *cut) ? kept++ : kDropped;
    }
  });
}

}  // namespace switchyard
