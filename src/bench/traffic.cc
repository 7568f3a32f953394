#include "bench/traffic.h"

#include <algorithm>

#include "bench/cost.h"
#include "bench/work.h"

namespace switchyard {
namespace {

double fullest(const DispatchPlan& plan) {
  return static_cast<double>(*std::ranges::max_element(plan.expert_rows));
}

/// Rows that an implementation multiplies, its own padding included.
double computed_rows(std::string_view impl, const DispatchPlan& plan) {
  if (impl == "padded") return static_cast<double>(plan.num_experts) * fullest(plan);
  if (impl == "capacity") {
    return plan.num_experts * std::max(static_cast<double>(plan.capacity), fullest(plan));
  }
  double rows = 0;
  for (const std::int64_t n : plan.expert_rows) {
    rows += static_cast<double>(impl == "block" ? (n + 63) / 64 * 64 : n);
  }
  return rows;
}

}  // namespace

double moved_by_pack(const Cell& cell, const Plans& plans, bool reads_tokens_once) {
  return plans.mean([&](const DispatchPlan& plan) {
    const std::int64_t read = reads_tokens_once ? kept_tokens(plan) : kept_assignments(plan);
    return row_bytes(cell, static_cast<double>(read + plan.num_rows()));
  });
}

double moved_by_experts(const Cell& cell, const Plans& plans) {
  const auto element = static_cast<double>(size_of(cell.dtype));
  const bool is_padded = cell.impl == "padded" || cell.impl == "capacity" || cell.impl == "block";
  return plans.mean([&](const DispatchPlan& plan) {
    const auto kept = static_cast<double>(kept_assignments(plan));
    const auto num_experts = static_cast<double>(plan.num_experts);
    const double computed = computed_rows(cell.impl, plan);
    double rows = 2 * computed;                           // into the first product, out of the last
    if (is_padded) rows += (kept + computed) + 2 * kept;  // the copies in and back
    if (cell.impl == "loop" && plan.layout == Layout::fused) rows += 2 * kept;
    const double between = 2 * computed * static_cast<double>(cell.ffn) * element;
    const double experts =
        is_padded && cell.impl != "block" ? num_experts : static_cast<double>(active_experts(plan));
    return row_bytes(cell, rows) + between + multiplied_bytes(cell, experts);
  });
}

}  // namespace switchyard
