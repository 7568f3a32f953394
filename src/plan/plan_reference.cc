#include "plan/plan_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

namespace switchyard {
namespace {

using Assignments = std::vector<std::int64_t>;

// The assignments expert by expert, in token order.
std::vector<Assignments> group_by_expert(const Routing& routing) {
  std::vector<Assignments> groups(static_cast<std::size_t>(routing.num_experts));
  for (std::size_t a = 0; a < routing.expert.size(); ++a) {
    groups[static_cast<std::size_t>(routing.expert[a])].push_back(static_cast<std::int64_t>(a));
  }
  return groups;
}

void drop(const Routing& routing, DropPolicy policy, std::int64_t capacity, Assignments& group) {
  if (static_cast<std::int64_t>(group.size()) <= capacity) return;
  if (policy == DropPolicy::probs) {
    std::stable_sort(group.begin(), group.end(), [&](std::int64_t a, std::int64_t b) {
      return routing.weight[static_cast<std::size_t>(a)] >
             routing.weight[static_cast<std::size_t>(b)];
    });
  }
  group.resize(static_cast<std::size_t>(capacity));
  std::sort(group.begin(), group.end());
}

std::int64_t rows_of_group(const PlanOptions& options, std::int64_t kept, std::int64_t capacity) {
  if (options.layout == Layout::capacity) return capacity;
  if (options.layout != Layout::block) return kept;
  std::int64_t rows = 0;
  while (rows < kept) rows += options.block_rows;
  return rows;
}

void renormalise_token(const Routing& routing, std::int64_t begin, std::int64_t end,
                       DispatchPlan& plan) {
  double before = 0, after = 0;
  bool has_dropped = false;
  for (auto a = static_cast<std::size_t>(begin); a < static_cast<std::size_t>(end); ++a) {
    before += routing.weight[a];
    after += plan.weight_of_assignment[a];
    if (plan.row_of_assignment[a] == -1) has_dropped = true;
  }
  if (!has_dropped || after <= 0) return;
  const double scale = before / after;
  for (auto a = static_cast<std::size_t>(begin); a < static_cast<std::size_t>(end); ++a) {
    plan.weight_of_assignment[a] = static_cast<float>(plan.weight_of_assignment[a] * scale);
  }
}

// The plan with the rows of every expert in token order.
DispatchPlan in_token_order(DispatchPlan plan, const Routing& routing) {
  for (int e = 0; e < plan.num_experts; ++e) {
    const auto i = static_cast<std::size_t>(e);
    const auto begin = plan.token_of_row.begin() + plan.expert_begin[i];
    std::sort(begin, begin + plan.expert_rows[i]);
  }
  for (std::size_t t = 0; t < static_cast<std::size_t>(plan.num_tokens); ++t) {
    for (auto a = plan.token_begin[t]; a < plan.token_begin[t + 1]; ++a) {
      std::int32_t& row = plan.row_of_assignment[static_cast<std::size_t>(a)];
      if (row < 0) continue;
      const auto e = static_cast<std::size_t>(routing.expert[static_cast<std::size_t>(a)]);
      const auto begin = plan.token_of_row.begin() + plan.expert_begin[e];
      const auto found = std::lower_bound(begin, begin + plan.expert_rows[e], t);
      row = static_cast<std::int32_t>(found - plan.token_of_row.begin());
    }
  }
  return plan;
}

// Whether every kept assignment has a row of its expert that names its token.
bool rows_name_their_tokens(const DispatchPlan& plan, const Routing& routing) {
  for (std::size_t t = 0; t < static_cast<std::size_t>(plan.num_tokens); ++t) {
    for (auto i = plan.token_begin[t]; i < plan.token_begin[t + 1]; ++i) {
      const auto a = static_cast<std::size_t>(i);
      const std::int64_t row = plan.row_of_assignment[a];
      if (row == -1) continue;
      const auto e = static_cast<std::size_t>(routing.expert[a]);
      if (row < plan.expert_begin[e] || row >= plan.expert_begin[e] + plan.expert_rows[e]) {
        return false;
      }
      if (plan.token_of_row[static_cast<std::size_t>(row)] != static_cast<std::int32_t>(t)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

DispatchPlan plan_reference(const Routing& routing, const PlanOptions& options) {
  std::vector<Assignments> groups = group_by_expert(routing);
  std::vector<std::int32_t> token_of_assignment;
  for (std::int64_t t = 0; t < routing.num_tokens; ++t) {
    const auto i = static_cast<std::size_t>(t);
    token_of_assignment.insert(
        token_of_assignment.end(),
        static_cast<std::size_t>(routing.token_begin[i + 1] - routing.token_begin[i]),
        static_cast<std::int32_t>(t));
  }

  DispatchPlan plan;
  plan.layout = options.layout;
  plan.num_tokens = routing.num_tokens;
  plan.num_experts = routing.num_experts;
  plan.token_begin = routing.token_begin;
  if (options.capacity_factor > 0) {
    plan.capacity = static_cast<std::int64_t>(
        std::ceil(options.capacity_factor * static_cast<double>(routing.expert.size()) /
                  routing.num_experts));
    for (Assignments& group : groups) drop(routing, options.drop_policy, plan.capacity, group);
  } else if (options.layout == Layout::capacity) {
    for (const Assignments& group : groups) {
      plan.capacity = std::max(plan.capacity, static_cast<std::int64_t>(group.size()));
    }
  }

  plan.row_of_assignment.assign(routing.expert.size(), -1);
  plan.weight_of_assignment.assign(routing.expert.size(), 0.0f);
  for (const Assignments& group : groups) {
    plan.expert_begin.push_back(plan.num_rows());
    plan.expert_rows.push_back(static_cast<std::int64_t>(group.size()));
    for (const std::int64_t assignment : group) {
      const auto a = static_cast<std::size_t>(assignment);
      plan.row_of_assignment[a] = static_cast<std::int32_t>(plan.num_rows());
      plan.weight_of_assignment[a] = routing.weight[a];
      plan.token_of_row.push_back(token_of_assignment[a]);
    }
    const std::int64_t rows = rows_of_group(options, plan.expert_rows.back(), plan.capacity);
    plan.token_of_row.resize(static_cast<std::size_t>(plan.expert_begin.back() + rows), -1);
  }
  plan.expert_begin.push_back(plan.num_rows());

  if (options.renormalise) {
    for (std::int64_t t = 0; t < routing.num_tokens; ++t) {
      const auto i = static_cast<std::size_t>(t);
      renormalise_token(routing, routing.token_begin[i], routing.token_begin[i + 1], plan);
    }
  }
  return plan;
}

bool is_valid_reference(const Routing& routing) {
  const std::size_t num_assignments = routing.expert.size();
  if (routing.num_tokens < 0 || routing.num_experts < 1 || routing.num_experts > 1 << 20) {
    return false;
  }
  if (routing.weight.size() != num_assignments) return false;
  if (routing.token_begin.size() != static_cast<std::size_t>(routing.num_tokens) + 1) return false;
  if (routing.token_begin.front() != 0) return false;
  if (routing.token_begin.back() != static_cast<std::int64_t>(num_assignments)) return false;
  if (!std::is_sorted(routing.token_begin.begin(), routing.token_begin.end())) return false;
  for (std::size_t t = 0; t + 1 < routing.token_begin.size(); ++t) {
    const std::set<std::int32_t> experts(routing.expert.begin() + routing.token_begin[t],
                                         routing.expert.begin() + routing.token_begin[t + 1]);
    const std::int64_t count = routing.token_begin[t + 1] - routing.token_begin[t];
    if (static_cast<std::int64_t>(experts.size()) != count) return false;
  }
  return std::all_of(routing.expert.begin(), routing.expert.end(),
                     [&](std::int32_t e) { return e >= 0 && e < routing.num_experts; }) &&
         std::all_of(routing.weight.begin(), routing.weight.end(),
                     [](float w) { return std::isfinite(w); });
}

bool plans_are_equal(const DispatchPlan& a, const DispatchPlan& b) {
  const auto same_bits = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() &&
           (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  };
  return a.layout == b.layout && a.num_tokens == b.num_tokens && a.num_experts == b.num_experts &&
         a.capacity == b.capacity && a.expert_begin == b.expert_begin &&
         a.expert_rows == b.expert_rows && a.token_of_row == b.token_of_row &&
         a.row_of_assignment == b.row_of_assignment &&
         same_bits(a.weight_of_assignment, b.weight_of_assignment) &&
         a.token_begin == b.token_begin;
}

bool plans_agree_in_any_order(const Routing& routing, const DispatchPlan& plan,
                              const DispatchPlan& reference) {
  return plan.expert_begin == reference.expert_begin && plan.expert_rows == reference.expert_rows &&
         plan.token_begin == reference.token_begin && plan.num_rows() == reference.num_rows() &&
         plan.row_of_assignment.size() == reference.row_of_assignment.size() &&
         rows_name_their_tokens(plan, routing) &&
         plans_are_equal(in_token_order(plan, routing), reference);
}

}  // namespace switchyard
