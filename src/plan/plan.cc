#include "switchyard/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/context.h"
#include "cuda/device_layout.h"
#include "cuda/gpu.h"
#include "plan/counts.h"
#include "plan/drop_policy.h"
#include "plan/place.h"
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
