#include "bench/budget.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "bench/draws.h"
#include "bench/sampler.h"

namespace switchyard {

Budget::Budget(const Measurement& measurement, const RoutingSource& source,
               const RunOptions& options, std::int64_t held)
    : measurement_(measurement),
      source_(source),
      flush_bytes_(options.cold ? static_cast<double>(cache_flush_bytes()) : 0),
      have_(available_memory()) {
  have_.bytes += std::min(held, std::numeric_limits<std::int64_t>::max() - have_.bytes);
}

double Budget::need(std::span<const Cell> cells) const {
  const ExpectedLoad load = expected_load(cells[0], source_);
  double shared = 0;
  double own = 0;
  for (const Cell& cell : cells) {
    const Cost cost = measurement_.cost(cell, load);
    shared = std::max(shared, cost.shared_bytes);
    own += cost.own_bytes;
  }
  return flush_bytes_ + shared + own;
}

bool Budget::has_room(std::span<const Cell> cells) const {
  return need(cells) <= static_cast<double>(have_.bytes);
}

std::int64_t Budget::room_beside(std::span<const Cell> cells) const {
  return static_cast<std::int64_t>(
      std::clamp(static_cast<double>(have_.bytes) - need(cells), 0.0, 9.2e18));
}

void Budget::require_room(std::span<const Cell> cells) const {
  if (has_room(cells)) return;
  const Cell& cell = cells[0];
  const double need_bytes = std::min(need(cells), 9.2e18);
  require_memory(static_cast<std::int64_t>(need_bytes), have_,
                 fmt::format("{} {} with T={} H={} F={} E={} K={}", cell.bench, cell.impl,
                             cell.tokens, cell.hidden, cell.ffn, cell.experts, cell.top_k),
                 what_fits(cell));
}

std::string Budget::what_fits(Cell cell) const {
  // Halvings: the first that fits is within a factor of two of the largest.
  const std::int64_t tokens = cell.tokens;
  while (cell.tokens > 1) {
    cell.tokens /= 2;
    if (has_room({&cell, 1})) return fmt::format("--tokens {} would fit", cell.tokens);
  }
  cell.tokens = tokens;
  while (source_.gives_logits() && cell.experts / 2 >= cell.top_k) {
    cell.experts /= 2;
    if (has_room({&cell, 1})) return fmt::format("--experts {} would fit", cell.experts);
  }
  return "";
}

}  // namespace switchyard
