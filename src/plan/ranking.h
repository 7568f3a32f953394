#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "switchyard/context.h"
#include "switchyard/routing.h"

namespace switchyard {

/// Tokens cut into ranges of equal length but for the grain at whose multiples they are cut, each
/// the work of one thread.
struct TokenRanges {
  std::int64_t num_tokens = 0;
  std::int64_t count = 1;
  std::int64_t grain = 1;

  std::int64_t begin(std::int64_t range) const noexcept {
    const std::int64_t grains = (num_tokens + grain - 1) / grain;
    return std::min(num_tokens, grains * range / count * grain);
  }
  std::int64_t end(std::int64_t range) const noexcept { return begin(range + 1); }
};

/// Below this many assignments per thread the work on them is shorter than waking the thread.
inline constexpr std::int64_t kMinAssignmentsPerRange = 4096;

/// As many ranges as threads, but no more than give each `min_assignments`, nor than keep [ranges,
/// E] tables small beside A, so that filling and adding them up stays linear.
TokenRanges token_ranges(const Context& context, const Routing& routing,
                         std::int64_t min_assignments = kMinAssignmentsPerRange) noexcept;

/// The place of each assignment among those of its expert, in token order:
///   base[range of a's token, expert[a]] + rank[a] = #{b < a : expert[b] = expert[a]}
struct Ranking {
  TokenRanges ranges;
  std::span<std::int32_t> rank;  ///< [A]; empty: for who walks a range in token order and counts
  std::span<std::int32_t> base;  ///< [ranges, E]
  std::span<std::int64_t> assigned;  ///< [E] n_e before any drop
};

/// Turns the counts of each range in `base` into sums over the ranges before, and fills `assigned`.
void add_up_ranges(const Ranking& ranking) noexcept;

/// Fills `ranking` (spans allocated, ranges set) from a valid routing.
using RankAssignments = void (*)(Context&, const Routing&, const Ranking&);

/// Histogram per range, prefix sum over ranges: linear, and ours. Fills an empty rank with nothing.
void rank_by_counting(Context& context, const Routing& routing, const Ranking& ranking);
/// Stable argsort of the expert ids: A log A, one thread.
void rank_by_sort(Context& context, const Routing& routing, const Ranking& ranking);
/// One scan over all assignments per expert: A * E, parallel over experts.
void rank_by_mask_scan(Context& context, const Routing& routing, const Ranking& ranking);
/// A counter per expert that all threads add to: linear. Ranks are a permutation of those of token
/// order, base is 0; on several threads no two runs need agree.
void rank_by_atomic(Context& context, const Routing& routing, const Ranking& ranking);

}  // namespace switchyard
