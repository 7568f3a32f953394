#include "workload/trace_stats.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr int kLines = 8;
constexpr int kLevels = 8;       // a character cell has eighths
constexpr int kAxisColumns = 8;  // "  5.36 |"
constexpr int kWidestBar = 4;

constexpr std::array<std::string_view, kLevels + 1> kBlocks = {" ", "▁", "▂", "▃", "▄",
                                                               "▅", "▆", "▇", "█"};

/// One bar for each group of `per_bar` neighbours: its fullest expert.
std::vector<std::int64_t> bars_of(std::span<const std::int64_t> load, BarOrder order,
                                  std::size_t per_bar) {
  std::vector<std::int64_t> sorted(load.begin(), load.end());
  if (order == BarOrder::by_load) std::sort(sorted.rbegin(), sorted.rend());
  std::vector<std::int64_t> bars;
  for (std::size_t begin = 0; begin < sorted.size(); begin += per_bar) {
    const std::size_t end = std::min(sorted.size(), begin + per_bar);
    bars.push_back(*std::max_element(sorted.begin() + static_cast<std::ptrdiff_t>(begin),
                                     sorted.begin() + static_cast<std::ptrdiff_t>(end)));
  }
  return bars;
}

/// Eighths of a cell, 0..kLines * kLevels; a load that is not 0 is always seen.
int height_of(std::int64_t load, std::int64_t largest) {
  if (load == 0) return 0;
  const double share = static_cast<double>(load) / static_cast<double>(largest);
  return std::max(1, static_cast<int>(share * kLines * kLevels + 0.5));
}

std::string caption(std::size_t num_experts, std::size_t per_bar, BarOrder order) {
  return fmt::format(
      "{:>{}} {} experts {}, load / mean{}\n", "", kAxisColumns, num_experts,
      order == BarOrder::by_load ? "by falling load" : "by id",
      per_bar == 1 ? std::string() : fmt::format("; a column is the fullest of {}", per_bar));
}

}  // namespace

TraceStats trace_stats(const Trace& trace) {
  return {.layer = trace.layer,
          .tokens = trace.tokens,
          .assignments = std::accumulate(trace.load.begin(), trace.load.end(), std::int64_t{0}),
          .experts = trace.experts,
          .top_k = trace.top_k,
          .load = load_stats(trace.load)};
}

std::string load_picture(std::span<const std::int64_t> load, int width, BarOrder order) {
  constexpr int kNarrowest = 20;
  require(!load.empty(), "load has no experts: expected at least one");
  require(width >= kNarrowest, "width is {}: expected {} columns or more", width, kNarrowest);
  require(*std::min_element(load.begin(), load.end()) >= 0,
          "load of an expert is {}: expected 0 "
          "or more",
          *std::min_element(load.begin(), load.end()));
  const auto columns = static_cast<std::size_t>(width - kAxisColumns);
  const std::size_t per_bar = (load.size() + columns - 1) / columns;
  const auto bars = bars_of(load, order, per_bar);
  const auto bar_columns = std::clamp<std::size_t>(columns / bars.size(), 1, kWidestBar);
  const std::int64_t largest = *std::max_element(load.begin(), load.end());
  const double mean =
      std::accumulate(load.begin(), load.end(), 0.0) / static_cast<double>(load.size());
  std::string text;
  for (int line = kLines; line-- > 0;) {
    const double top = largest == 0 ? 0 : static_cast<double>(largest) / mean * (line + 1) / kLines;
    text += fmt::format("{:>{}.2f} |", top, kAxisColumns - 2);
    for (const std::int64_t bar : bars) {
      const int level = std::clamp(height_of(bar, largest) - line * kLevels, 0, kLevels);
      for (std::size_t i = 0; i < bar_columns; ++i)
        text += kBlocks[static_cast<std::size_t>(level)];
    }
    text += '\n';
  }
  return text + caption(load.size(), per_bar, order);
}

}  // namespace switchyard
