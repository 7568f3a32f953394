#include "plan/ranking.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>

#include "base/context.h"

namespace switchyard {
namespace {

/// A cache line of its own, so that threads contend for an expert only, not for its neighbours.
struct alignas(64) Counter {
  std::atomic<std::int32_t> value{0};
};

void clear_base(const Ranking& ranking) { std::ranges::fill(ranking.base, 0); }

}  // namespace

TokenRanges token_ranges(const Context& context, const Routing& routing,
                         std::int64_t min_assignments) noexcept {
  const std::int64_t least = std::max<std::int64_t>(routing.num_experts, min_assignments);
  const std::int64_t count =
      std::min<std::int64_t>(context.threads(), routing.num_assignments() / least);
  return {routing.num_tokens, std::max<std::int64_t>(count, 1)};
}

void add_up_ranges(const Ranking& ranking) noexcept {
  const auto num_experts = static_cast<std::int64_t>(ranking.assigned.size());
  std::ranges::fill(ranking.assigned, 0);
  for (std::int64_t range = 0; range < ranking.ranges.count; ++range) {
    std::int32_t* base = ranking.base.data() + range * num_experts;
    for (std::int64_t e = 0; e < num_experts; ++e) {
      const std::int32_t count = base[e];
      base[e] = static_cast<std::int32_t>(ranking.assigned[e]);
      ranking.assigned[e] += count;
    }
  }
}

void rank_by_counting(Context& context, const Routing& routing, const Ranking& ranking) {
  const std::int64_t num_experts = routing.num_experts;
  const TokenRanges ranges = ranking.ranges;
  pool_of(context).for_each(ranges.count, [&](std::int64_t range, int) {
    std::int32_t* count = ranking.base.data() + range * num_experts;
    std::fill_n(count, num_experts, 0);
    const std::int64_t end = routing.token_begin[ranges.end(range)];
    const std::int64_t begin = routing.token_begin[ranges.begin(range)];
    if (ranking.rank.empty()) {
      for (std::int64_t a = begin; a < end; ++a) ++count[routing.expert[a]];
    } else {
      for (std::int64_t a = begin; a < end; ++a) ranking.rank[a] = count[routing.expert[a]]++;
    }
  });
  add_up_ranges(ranking);
}

void rank_by_sort(Context& context, const Routing& routing, const Ranking& ranking) {
  Arena::Scope scope(arena_of(context));
  const auto order = scope.take<std::int32_t>(routing.num_assignments());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int32_t a) { return routing.expert[a]; });
  clear_base(ranking);
  std::ranges::fill(ranking.assigned, 0);
  for (const std::int32_t a : order) {
    ranking.rank[a] = static_cast<std::int32_t>(ranking.assigned[routing.expert[a]]++);
  }
}

void rank_by_mask_scan(Context& context, const Routing& routing, const Ranking& ranking) {
  clear_base(ranking);
  pool_of(context).for_each(routing.num_experts, [&](std::int64_t e, int) {
    std::int32_t found = 0;
    const std::int64_t num_assignments = routing.num_assignments();
    for (std::int64_t a = 0; a < num_assignments; ++a) {
      if (routing.expert[a] == e) ranking.rank[a] = found++;
    }
    ranking.assigned[e] = found;
  });
}

void rank_by_atomic(Context& context, const Routing& routing, const Ranking& ranking) {
  Arena::Scope scope(arena_of(context));
  const auto counters = scope.take<Counter>(routing.num_experts);
  std::uninitialized_default_construct(counters.begin(), counters.end());
  clear_base(ranking);
  const TokenRanges ranges = ranking.ranges;
  pool_of(context).for_each(ranges.count, [&](std::int64_t range, int) {
    const std::int64_t end = routing.token_begin[ranges.end(range)];
    for (std::int64_t a = routing.token_begin[ranges.begin(range)]; a < end; ++a) {
      std::atomic<std::int32_t>& counter = counters[routing.expert[a]].value;
      ranking.rank[a] = counter.fetch_add(1, std::memory_order_relaxed);
    }
  });
  for (std::size_t e = 0; e < counters.size(); ++e) ranking.assigned[e] = counters[e].value;
}

}  // namespace switchyard
