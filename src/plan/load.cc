#include "switchyard/load.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace switchyard {

LoadStats load_stats(std::span<const std::int64_t> rows_of_expert) {
  LoadStats stats;
  double sum = 0, largest = 0;
  for (std::size_t e = 0; e < rows_of_expert.size(); ++e) {
    require(rows_of_expert[e] >= 0, "rows_of_expert[{}] is {}: expected 0 or more", e,
            rows_of_expert[e]);
    const auto rows = static_cast<double>(rows_of_expert[e]);
    sum += rows;
    largest = std::max(largest, rows);
    if (rows > 0) ++stats.experts_active;
  }
  if (sum == 0) return stats;

  const auto num_experts = static_cast<double>(rows_of_expert.size());
  const double mean = sum / num_experts;
  double variance = 0, entropy = 0;
  for (const std::int64_t n : rows_of_expert) {
    const auto rows = static_cast<double>(n);
    variance += (rows - mean) * (rows - mean) / num_experts;
    if (n > 0) entropy -= rows / sum * std::log(rows / sum);
  }
  stats.cv = std::sqrt(variance) / mean;
  stats.max_over_mean = largest / mean;
  stats.max_vio = stats.max_over_mean - 1;
  stats.entropy = rows_of_expert.size() == 1 ? 1 : entropy / std::log(num_experts);
  return stats;
}

DropStats drop_stats(const DispatchPlan& plan) {
  DropStats stats;
  stats.padding_rows = std::ranges::count(plan.token_of_row, -1);
  const auto num_assignments = static_cast<std::int64_t>(plan.row_of_assignment.size());
  if (num_assignments == 0) return stats;

  std::int64_t dropped = 0, dropped_tokens = 0;
  for (std::int64_t t = 0; t < plan.num_tokens; ++t) {
    const auto rows = std::span(plan.row_of_assignment.begin() + plan.token_begin[t],
                                plan.row_of_assignment.begin() + plan.token_begin[t + 1]);
    const auto lost = std::ranges::count(rows, -1);
    dropped += lost;
    if (!rows.empty() && lost == std::ssize(rows)) ++dropped_tokens;
  }
  stats.drop_rate = static_cast<double>(dropped) / static_cast<double>(num_assignments);
  stats.token_drop_rate =
      static_cast<double>(dropped_tokens) / static_cast<double>(plan.num_tokens);
  return stats;
}

double gate_entropy(const Routing& routing) {
  validate(routing);
  if (routing.num_tokens == 0) return 0;
  double entropy = 0;
  for (const float weight : routing.weight) {
    if (weight > 0) entropy -= weight * std::log(static_cast<double>(weight));
  }
  return entropy / static_cast<double>(routing.num_tokens);
}

}  // namespace switchyard
