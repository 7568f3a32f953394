#include "cli/load_line.h"

#include <algorithm>
#include <string_view>

namespace switchyard::cli {
namespace {

constexpr std::size_t kMaxColumns = 64;
constexpr std::int64_t kSteps = 8;  // heights of a block
constexpr std::string_view kBlocks[kSteps + 1] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

}  // namespace

std::string load_line(std::span<const std::int64_t> load) {
  std::string out;
  if (load.empty()) return out;
  const std::size_t fold = (load.size() + kMaxColumns - 1) / kMaxColumns;
  const std::int64_t max = std::max<std::int64_t>(1, *std::max_element(load.begin(), load.end()));
  for (std::size_t i = 0; i < load.size(); i += fold) {
    const auto column = load.subspan(i, std::min(fold, load.size() - i));
    const std::int64_t top = *std::max_element(column.begin(), column.end());
    // In double: a load times the number of steps may pass 2^63.
    const double height = static_cast<double>(top) / static_cast<double>(max) * kSteps;
    // Any load at all shows.
    out += kBlocks[std::max<std::int64_t>(top > 0, static_cast<std::int64_t>(height + 0.5))];
  }
  return out;
}

}  // namespace switchyard::cli
