#include "plan/validate_routing.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/context.h"
#include "plan/ranking.h"

namespace switchyard {
namespace {

constexpr std::int64_t kMaxCount = std::numeric_limits<std::int32_t>::max();
// Tables per thread are [E]; no model is near this.
constexpr int kMaxExperts = 1 << 20;

void require_sizes(const Routing& routing) {
  require(routing.num_tokens >= 0 && routing.num_tokens <= kMaxCount,
          "routing.num_tokens is {}: expected 0 to {}", routing.num_tokens, kMaxCount);
  require(routing.num_experts >= 1 && routing.num_experts <= kMaxExperts,
          "routing.num_experts is {}: expected 1 to {}", routing.num_experts, kMaxExperts);
  require(routing.num_assignments() <= kMaxCount,
          "routing.expert has {} entries: expected at most {}", routing.expert.size(), kMaxCount);
  require(routing.weight.size() == routing.expert.size(),
          "routing.weight has {} entries: expected {}, one for each of routing.expert",
          routing.weight.size(), routing.expert.size());
  require(static_cast<std::int64_t>(routing.token_begin.size()) == routing.num_tokens + 1,
          "routing.token_begin has {} entries: expected num_tokens + 1 = {}",
          routing.token_begin.size(), routing.num_tokens + 1);
  require(routing.token_begin.front() == 0, "routing.token_begin[0] is {}: expected 0",
          routing.token_begin.front());
  require(routing.token_begin.back() == routing.num_assignments(),
          "routing.token_begin[{}] is {}: expected the number of assignments, {}",
          routing.num_tokens, routing.token_begin.back(), routing.num_assignments());
}

bool begins_hold(const Routing& routing, std::int64_t first, std::int64_t last) {
  const std::int64_t* begin = routing.token_begin.data();
  bool hold = begin[first] >= 0 && begin[last] <= routing.num_assignments();
  for (std::int64_t t = first; t < last; ++t) hold &= begin[t] <= begin[t + 1];
  return hold;
}

// Integer arithmetic without branches: compiles to vector code.
bool values_hold(const Routing& routing, std::int64_t first, std::int64_t last) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  const auto num_experts = static_cast<std::uint32_t>(routing.num_experts);
  std::uint32_t broken = 0;
  for (std::int64_t a = first; a < last; ++a) {
    broken |= static_cast<std::uint32_t>(routing.expert[a]) >= num_experts;
    broken |= (std::bit_cast<std::uint32_t>(routing.weight[a]) & kExponent) == kExponent;
  }
  return broken == 0;
}

// last_token[e] names the last token seen with expert e: linear in the token's assignments.
bool experts_are_distinct(const Routing& routing, std::int64_t first, std::int64_t last,
                          std::span<std::int32_t> last_token) {
  std::ranges::fill(last_token, -1);
  bool distinct = true;
  for (std::int64_t t = first; t < last; ++t) {
    for (std::int64_t a = routing.token_begin[t]; a < routing.token_begin[t + 1]; ++a) {
      std::int32_t& seen = last_token[routing.expert[a]];
      distinct &= seen != t;
      seen = static_cast<std::int32_t>(t);
    }
  }
  return distinct;
}

}  // namespace

void validate(const Routing& routing) {
  require_sizes(routing);
  std::vector<std::int64_t> last_token(static_cast<std::size_t>(routing.num_experts), -1);
  for (std::int64_t t = 0; t < routing.num_tokens; ++t) {
    const std::int64_t begin = routing.token_begin[t], end = routing.token_begin[t + 1];
    require(begin <= end && end <= routing.num_assignments(),
            "routing.token_begin[{}] is {}: expected {} to {}", t + 1, end, begin,
            routing.num_assignments());
    for (std::int64_t a = begin; a < end; ++a) {
      const std::int32_t e = routing.expert[a];
      require(e >= 0 && e < routing.num_experts,
              "routing.expert[{}] of token {} is {}: expected 0 to {}", a, t, e,
              routing.num_experts - 1);
      require(last_token[e] != t,
              "routing.expert[{}] of token {} is {} again: expected distinct experts", a, t, e);
      require(std::isfinite(routing.weight[a]),
              "routing.weight[{}] of token {} is {}: expected a finite number", a, t,
              routing.weight[a]);
      last_token[e] = t;
    }
  }
}

void validate_routing(Context& context, const Routing& routing) {
  require_sizes(routing);
  const TokenRanges ranges = token_ranges(context, routing);
  Arena::Scope scope(arena_of(context));
  const auto last_token = scope.take<std::int32_t>(ranges.count * routing.num_experts);
  std::atomic<bool> holds{true};
  pool_of(context).for_each(ranges.count, [&](std::int64_t range, int) {
    const std::int64_t first = ranges.begin(range), last = ranges.end(range);
    const bool range_holds =
        begins_hold(routing, first, last) &&
        values_hold(routing, routing.token_begin[first], routing.token_begin[last]) &&
        experts_are_distinct(routing, first, last,
                             last_token.subspan(static_cast<std::size_t>(range) *
                                                    static_cast<std::size_t>(routing.num_experts),
                                                static_cast<std::size_t>(routing.num_experts)));
    if (!range_holds) holds.store(false, std::memory_order_relaxed);
  });
  // The slow walk finds what is wrong first, whatever the number of threads.
  if (!holds.load(std::memory_order_relaxed)) validate(routing);
}

}  // namespace switchyard
