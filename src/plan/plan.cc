#include "switchyard/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/context.h"
#include "base/cpu.h"
#include "cuda/device_layout.h"
#include "cuda/gpu.h"
#include "plan/counts.h"
#include "plan/drop_policy.h"
#include "plan/plan_device.h"
#include "plan/plan_impl.h"
#include "plan/ranking.h"
#include "plan/validate_routing.h"

namespace switchyard {
namespace {

constexpr std::array<Named<Layout>, 4> kLayoutNames = {{
    {Layout::compact, "compact"},
    {Layout::capacity, "capacity"},
    {Layout::block, "block"},
    {Layout::fused, "fused"},
}};

constexpr std::array<Named<DropPolicy>, 2> kDropPolicyNames = {{
    {DropPolicy::position, "position"},
    {DropPolicy::probs, "probs"},
}};

constexpr std::array<Named<RankAssignments>, 4> kImplementations = {{
    {rank_by_counting, "counting"},
    {rank_by_sort, "sort"},
    {rank_by_mask_scan, "mask_scan"},
    {rank_by_atomic, "atomic"},
}};

// Assignments of which a thread copies the rows soon pay for it.
constexpr std::int64_t kMinCopiesPerRange = 16;
constexpr std::int64_t kTokensPlacedAtOnce = 16;
// Of which weights and begins are copied while the routing is in L1, beside a line of rows of each
// expert.
constexpr std::int64_t kTokensInL1 = 64;

constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();

void require_options(const PlanOptions& options) {
  require(std::isfinite(options.capacity_factor) && options.capacity_factor >= 0,
          "capacity_factor is {}: expected 0 (dropless) or more", options.capacity_factor);
  if (options.layout == Layout::block) {
    require(options.block_rows >= 1 && options.block_rows <= kMaxRows,
            "block_rows is {}: expected 1 to {}", options.block_rows, kMaxRows);
  }
}

std::int64_t limit_of(const PlanOptions& options, std::int64_t num_assignments, int num_experts) {
  const double capacity =
      std::ceil(options.capacity_factor * static_cast<double>(num_assignments) / num_experts);
  require(capacity <= static_cast<double>(kMaxRows),
          "capacity_factor is {}: a capacity of {} rows per expert is more than {}",
          options.capacity_factor, capacity, kMaxRows);
  return static_cast<std::int64_t>(capacity);
}

std::int64_t capacity_of(const PlanOptions& options, const Routing& routing,
                         std::span<const std::int64_t> assigned) {
  if (options.capacity_factor > 0) {
    return limit_of(options, routing.num_assignments(), routing.num_experts);
  }
  return options.layout == Layout::capacity ? std::ranges::max(assigned) : 0;
}

void lay_out_experts(const PlanOptions& options, std::span<const std::int64_t> assigned,
                     DispatchPlan& plan) {
  const bool may_drop = options.capacity_factor > 0;
  plan.expert_rows.resize(assigned.size());
  plan.expert_begin.resize(assigned.size() + 1);
  plan.expert_begin[0] = 0;
  for (std::size_t e = 0; e < assigned.size(); ++e) {
    const std::int64_t kept = may_drop ? std::min(assigned[e], plan.capacity) : assigned[e];
    std::int64_t rows = kept;
    if (plan.layout == Layout::capacity) rows = plan.capacity;
    if (plan.layout == Layout::block) {
      rows = (kept + options.block_rows - 1) / options.block_rows * options.block_rows;
    }
    plan.expert_rows[e] = kept;
    plan.expert_begin[e + 1] = plan.expert_begin[e] + rows;
  }
  require(plan.expert_begin.back() <= kMaxRows,
          "the {} layout of this routing has {} rows: expected at most {}", name_of(plan.layout),
          plan.expert_begin.back(), kMaxRows);
  plan.token_of_row.resize(static_cast<std::size_t>(plan.expert_begin.back()));
}

void mark_padding(Context& context, DispatchPlan& plan) {
  if (plan.layout != Layout::capacity && plan.layout != Layout::block) return;
  pool_of(context).for_ranges(plan.num_experts, 1, [&](std::int64_t first, std::int64_t last, int) {
    for (std::int64_t e = first; e < last; ++e) {
      const auto rows = plan.token_of_row.begin();
      std::fill(rows + plan.expert_begin[e] + plan.expert_rows[e], rows + plan.expert_begin[e + 1],
                -1);
    }
  });
}

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

/// Loads a line after the other of a thread's share of the rows, whoever will write them: memory
/// that is best read in order (CpuFeatures::reads_in_order) then gives them three times as fast as
/// to prefetches of the rows the thread will write. In asm, since others may be writing there by
/// now; what is loaded is not looked at. With copies as passes of their own, Zen 4, of the time of
/// a plan: K = 8 0.69 to 0.78, K = 2 0.83 to 0.95.
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

using TokensPlaced = std::function<void(std::int64_t begin, std::int64_t end)>;

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

// Turns places among an expert's assignments into rows.
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

void shape_plan(const Routing& routing, const PlanOptions& options, DispatchPlan& plan) {
  plan.layout = options.layout;
  plan.num_tokens = routing.num_tokens;
  plan.num_experts = routing.num_experts;
  plan.row_of_assignment.resize(routing.expert.size());
  plan.weight_of_assignment.resize(routing.expert.size());
  plan.token_begin.resize(routing.token_begin.size());
}

void finish_plan(Context& context, const Routing& routing, const PlanOptions& options,
                 const Ranking& ranking, const TokensPlaced& placed, DispatchPlan& plan) {
  plan.capacity = capacity_of(options, routing, ranking.assigned);
  lay_out_experts(options, ranking.assigned, plan);
  if (options.capacity_factor > 0 && options.drop_policy == DropPolicy::probs) {
    rank_largest_weights(context, routing, plan.capacity, ranking);
  }
  mark_padding(context, plan);
  place_assignments(context, routing, options, ranking, placed, plan);
}

bool needs_ranks(const PlanOptions& options) noexcept {
  return options.capacity_factor > 0 && options.drop_policy == DropPolicy::probs;
}

void make_plan_by(RankAssignments rank_assignments, Context& context, const Routing& routing,
                  const PlanOptions& options, DispatchPlan& plan, const TokensPlaced& placed = {}) {
  require_options(options);
  validate_routing(context, routing);
  shape_plan(routing, options, plan);
  Arena::Scope scope(arena_of(context));
  Ranking ranking;
  ranking.ranges =
      token_ranges(context, routing, placed ? kMinCopiesPerRange : kMinAssignmentsPerRange);
  // Ranks lie where rows will.
  if (rank_assignments != rank_by_counting || needs_ranks(options)) {
    ranking.rank = plan.row_of_assignment;
  }
  ranking.base = scope.take<std::int32_t>(ranking.ranges.count * routing.num_experts);
  ranking.assigned = scope.take<std::int64_t>(routing.num_experts);
  rank_assignments(context, routing, ranking);
  finish_plan(context, routing, options, ranking, placed, plan);
}

}  // namespace

std::string_view name_of(Layout layout) noexcept { return name_in(kLayoutNames, layout); }
Layout layout_from_name(std::string_view name) { return value_in(kLayoutNames, "layout", name); }

std::string_view name_of(DropPolicy policy) noexcept { return name_in(kDropPolicyNames, policy); }
DropPolicy drop_policy_from_name(std::string_view name) {
  return value_in(kDropPolicyNames, "drop policy", name);
}

std::span<const std::string_view> plan_implementations() noexcept {
  static constexpr auto kNames = [] {
    std::array<std::string_view, kImplementations.size()> names;
    for (std::size_t i = 0; i < names.size(); ++i) names[i] = kImplementations[i].name;
    return names;
  }();
  return kNames;
}

bool plan_is_deterministic(std::string_view implementation) noexcept {
  return implementation != "atomic";
}

void make_plan_with(std::string_view implementation, Context& context, const Routing& routing,
                    const PlanOptions& options, DispatchPlan& plan) {
  require(
      plan_is_deterministic(implementation) || options.capacity_factor == 0 ||
          options.drop_policy == DropPolicy::probs,
      "plan implementation {} has no token order by which drop policy position keeps the first: "
      "expected policy probs or capacity_factor 0",
      implementation);
  make_plan_by(value_in(kImplementations, "plan implementation", implementation), context, routing,
               options, plan);
}

void make_plan_and(Context& context, const Routing& routing, const PlanOptions& options,
                   DispatchPlan& plan, const TokensPlaced& placed) {
  make_plan_by(rank_by_counting, context, routing, options, plan, placed);
}

void make_plan_counted(Context& context, const Routing& routing, AssignmentCounts& counts,
                       const PlanOptions& options, DispatchPlan& plan) {
  if (!counts.hold || needs_ranks(options)) {
    counts.hold = false;
    return make_plan(context, routing, options, plan);
  }
  counts.hold = false;
  require_options(options);
  shape_plan(routing, options, plan);
  Arena::Scope scope(arena_of(context));
  const Ranking ranking{.ranges = counts.ranges,
                        .rank = {},
                        .base = counts.of_range,
                        .assigned = scope.take<std::int64_t>(routing.num_experts)};
  add_up_ranges(ranking);
  finish_plan(context, routing, options, ranking, {}, plan);
}

void make_plan(Context& context, const Routing& routing, const PlanOptions& options,
               DispatchPlan& plan) {
  make_plan_by(rank_by_counting, context, routing, options, plan);
}

void make_plan(Context& context, const DeviceRouting& routing, const PlanOptions& options,
               DevicePlan& plan) {
  require_options(options);
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const std::int64_t num_experts = routing.num_experts, assigned = routing.num_assignments;
  require(num_experts >= 1 && num_experts <= plan_cuda::kMaxDeviceExperts,
          "routing has {} experts: a plan on a device takes 1 to {}", num_experts,
          plan_cuda::kMaxDeviceExperts);
  const bool drops = options.capacity_factor > 0;
  require(routing.num_tokens <= kMaxRows && assigned <= kMaxRows,
          "routing has {} tokens and {} assignments: expected at most {}", routing.num_tokens,
          assigned, kMaxRows);
  require(drops || options.layout != Layout::capacity,
          "capacity_factor is 0 in capacity layout, where C is the fullest expert's rows: on a "
          "device, where the host does not see them, expected more than 0");
  plan.layout = options.layout;
  plan.capacity = drops ? limit_of(options, assigned, routing.num_experts) : 0;
  // What the layout can take at most: the host does not wait to see what it took.
  std::int64_t rows = assigned;
  if (drops) rows = std::min(rows, num_experts * plan.capacity);
  if (options.layout == Layout::capacity) rows = num_experts * plan.capacity;
  if (options.layout == Layout::block) {
    rows += std::min(num_experts, assigned) * (options.block_rows - 1);
  }
  require(rows <= kMaxRows, "the {} layout of this routing may have {} rows: expected at most {}",
          name_of(plan.layout), rows, kMaxRows);
  cuda::shape_plan(context, routing.num_tokens, routing.num_experts, assigned, rows, plan);
  plan_cuda::plan_on_device(gpu, routing, options, plan);
}

}  // namespace switchyard
