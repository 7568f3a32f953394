#include "plan/place.h"

#include <algorithm>

#include "base/context.h"
#include "base/cpu.h"

namespace switchyard {
namespace {

constexpr std::int64_t kTokensPlacedAtOnce = 16;
// Of which weights and begins are copied while the routing is in L1, beside a line of rows of each
// expert.
constexpr std::int64_t kTokensInL1 = 64;

// Scales the kept weights of [begin, end) to the sum of all, in double. A token whose kept weights
// do not sum to more than 0 has no such scale and is left alone.
void renormalise(const Routing& routing, std::int64_t begin, std::int64_t end, DispatchPlan& plan) {
  double all = 0, kept = 0;
  for (std::int64_t a = begin; a < end; ++a) {
    all += routing.weight[a];
    kept += plan.weight_of_assignment[a];
  }
  if (!(kept > 0)) return;
  for (std::int64_t a = begin; a < end; ++a) {
    plan.weight_of_assignment[a] = static_cast<float>(plan.weight_of_assignment[a] * (all / kept));
  }
}

/// The tokens of one range on their way to rows.
struct Placing {
  const Routing& routing;
  const PlanOptions& options;
  const std::int32_t* rank;  ///< [A], or null: they come in token order
  std::int64_t* next;        ///< [E] the row of the range's first assignment of an expert, or next
};

void place_tokens(const Placing& p, std::int64_t first, std::int64_t last, DispatchPlan& plan) {
  const Routing& routing = p.routing;
  for (std::int64_t t = first; t < last; ++t) {
    const std::int64_t begin = routing.token_begin[t], end = routing.token_begin[t + 1];
    bool dropped = false;
    for (std::int64_t a = begin; a < end; ++a) {
      const std::int32_t e = routing.expert[a];
      const std::int64_t row = p.rank != nullptr ? p.next[e] + p.rank[a] : p.next[e]++;
      const bool kept = row < plan.expert_begin[e] + plan.expert_rows[e];
      plan.row_of_assignment[a] = kept ? static_cast<std::int32_t>(row) : -1;
      plan.weight_of_assignment[a] = kept ? routing.weight[a] : 0.0f;
      if (kept) plan.token_of_row[row] = static_cast<std::int32_t>(t);
      dropped |= !kept;
    }
    if (dropped && p.options.renormalise) renormalise(routing, begin, end, plan);
  }
}

// What place_tokens does where nothing is dropped and ranks come in token order.
void place_all_tokens(const Placing& p, std::int64_t first, std::int64_t last, DispatchPlan& plan) {
  const Routing& routing = p.routing;
  const std::int32_t* expert = routing.expert.data();
  std::int32_t* row_of_assignment = plan.row_of_assignment.data();
  std::int32_t* token_of_row = plan.token_of_row.data();
  const std::int64_t begin = routing.token_begin[first], end = routing.token_begin[last];
  // Two loops: stores to addresses that were just counted would hold up the next count, which the
  // processor cannot tell from them. A third of the time of one loop.
  for (std::int64_t a = begin; a < end; ++a) {
    row_of_assignment[a] = static_cast<std::int32_t>(p.next[expert[a]]++);
  }
  std::int64_t a = begin;
  for (std::int64_t t = first; t < last; ++t) {
    for (const std::int64_t token_end = routing.token_begin[t + 1]; a < token_end; ++a) {
      token_of_row[row_of_assignment[a]] = static_cast<std::int32_t>(t);
    }
  }
}

void copy_weights(const Routing& routing, std::int64_t first, std::int64_t last,
                  DispatchPlan& plan) {
  const std::int64_t begin = routing.token_begin[first], end = routing.token_begin[last];
  std::copy(routing.weight.begin() + begin, routing.weight.begin() + end,
            plan.weight_of_assignment.begin() + begin);
}

void copy_begins(const Routing& routing, std::int64_t first, std::int64_t last,
                 DispatchPlan& plan) {
  std::copy(routing.token_begin.begin() + first + 1, routing.token_begin.begin() + last + 1,
            plan.token_begin.begin() + first + 1);
}

/// Fetches [begin, end) for writing. One store after the other to as many places as there are
/// experts would wait for memory each time. Inline, as GCC drops calls of what only prefetches.
template <class T>
[[gnu::always_inline]] inline void expect_writes(const T* begin, const T* end) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (; begin < end; begin += kLine) __builtin_prefetch(begin, 1, 2);
}

// Fetches what will be written of tokens [first, last), token by token: 0.8 of the time of a plan
// with K = 2.
[[gnu::always_inline]] inline void expect_tokens(const Routing& routing, std::int64_t first,
                                                 std::int64_t last, DispatchPlan& plan) {
  const std::int64_t begin = routing.token_begin[first], end = routing.token_begin[last];
  const std::int32_t* row = plan.row_of_assignment.data();
  const float* weight = plan.weight_of_assignment.data();
  expect_writes(row + begin, row + end);
  expect_writes(weight + begin, weight + end);
  expect_writes(plan.token_begin.data() + first, plan.token_begin.data() + last);
}

/// Loads one line after the other of a thread's share of the rows, whoever will write them: where
/// memory is best read in order (CpuFeatures::reads_in_order) that brings them sooner than
/// prefetches of the rows the thread will write. In asm, since others may be writing there by now;
/// what is loaded is not looked at. With copies as passes of their own, Zen 4, of the time of a
/// plan: K = 8 0.68 to 0.78, K = 2 0.76 to 0.98; by prefetches in the same order nothing is gained.
inline void read_share_of_rows(const DispatchPlan& plan, std::int64_t range, std::int64_t ranges) {
  const std::int32_t* row = plan.token_of_row.data() + plan.num_rows() * range / ranges;
  const std::int32_t* end = plan.token_of_row.data() + plan.num_rows() * (range + 1) / ranges;
  constexpr std::int64_t kLine = 64 / sizeof(std::int32_t);
  for (; row < end; row += kLine) {
#ifdef __x86_64__
    __asm__ volatile("testb $0, %0" : : "m"(*row) : "cc");
#endif
  }
}

/// Where the rows of a range of tokens begin, for each expert; fetches those rows where asked to.
void begin_range(const Ranking& ranking, std::int64_t range, bool fetch, std::int64_t* next,
                 DispatchPlan& plan) {
  const std::int64_t num_experts = plan.num_experts;
  const std::int32_t* base = ranking.base.data() + range * num_experts;
  const bool is_last = range == ranking.ranges.count - 1;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    next[e] = plan.expert_begin[e] + base[e];
    if (!fetch) continue;
    const std::int64_t rows = plan.expert_rows[e];
    const std::int64_t end = std::min<std::int64_t>(rows, is_last ? rows : base[num_experts + e]);
    expect_writes(plan.token_of_row.data() + next[e],
                  plan.token_of_row.data() + plan.expert_begin[e] + end);
  }
}

}  // namespace

void place_assignments(Context& context, const Routing& routing, const PlanOptions& options,
                       const Ranking& ranking, const TokensPlaced& placed, DispatchPlan& plan) {
  const TokenRanges ranges = ranking.ranges;
  const std::int64_t num_experts = routing.num_experts;
  const bool is_simple = ranking.rank.empty() && options.capacity_factor == 0;
  const bool in_order = cpu_features().reads_in_order && !placed;
  const std::int64_t at_once = placed ? kTokensPlacedAtOnce : kTokensInL1;
  Arena::Scope scope(arena_of(context));
  // Whole cache lines a range, and the threads that counted a range place it.
  const std::int64_t stride = (num_experts + 7) / 8 * 8;
  const auto next_of_ranges = scope.take<std::int64_t>(ranges.count * stride);
  plan.token_begin[0] = 0;
  // Who is handed a range's first token reads its begin, which is the end of another range.
  if (placed) std::ranges::copy(routing.token_begin, plan.token_begin.begin());
  const auto place_range = [&](std::int64_t range) {
    std::int64_t* next = next_of_ranges.data() + range * stride;
    const std::int64_t begin = ranges.begin(range), end = ranges.end(range);
    begin_range(ranking, range, !in_order, next, plan);
    const Placing placing{routing, options, ranking.rank.empty() ? nullptr : ranking.rank.data(),
                          next};
    if (in_order) {
      read_share_of_rows(plan, range, ranges.count);
      if (is_simple) copy_weights(routing, begin, end, plan);
      copy_begins(routing, begin, end, plan);
    }
    for (std::int64_t first = begin; first < end; first += at_once) {
      const std::int64_t last = std::min(end, first + at_once);
      if (!placed && !in_order) {
        expect_tokens(routing, last, std::min(end, last + at_once), plan);
        copy_begins(routing, first, last, plan);
      }
      if (is_simple) {
        place_all_tokens(placing, first, last, plan);
        if (!in_order) copy_weights(routing, first, last, plan);
      } else {
        place_tokens(placing, first, last, plan);
      }
      if (placed) placed(first, last);
    }
  };
  pool_of(context).for_ranges(ranges.count, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t range = begin; range < end; ++range) place_range(range);
  });
}

}  // namespace switchyard
