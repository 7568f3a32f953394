#include "gemm/blocking.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kWantedRows = 256;
constexpr std::int64_t kMaxRows = 512;

std::int64_t round_down(std::int64_t n, std::int64_t unit) {
  return std::max(unit, n / unit * unit);
}

// n cut into the fewest equal parts of at most `most`, rounded up to `unit`.
std::int64_t equal_part(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t parts = std::max<std::int64_t>(1, (n + most - 1) / most);
  return round_up((n + parts - 1) / parts, unit);
}

}  // namespace

std::string Blocking::to_string() const { return fmt::format("rows {} depth {}", rows, depth); }

Blocking choose_blocking(const Kernel& kernel, std::int64_t depth, const CacheSizes& caches) {
  return choose_blocking(static_cast<std::int64_t>(size_of(kernel.panel)), depth, caches);
}

Blocking choose_blocking(std::int64_t panel_size, std::int64_t depth, const CacheSizes& caches) {
  const std::int64_t l2 = caches.l2 > 0 ? caches.l2 : 512 << 10;
  const std::int64_t panel_elements = l2 / 2 / panel_size;

  Blocking blocking;
  const auto deepest =
      static_cast<std::int64_t>(2 * std::sqrt(static_cast<double>(panel_elements)));
  const bool whole = depth * kWantedRows <= panel_elements;
  blocking.depth = whole ? depth : equal_part(depth, round_down(deepest, kDepthUnit), kDepthUnit);
  blocking.rows = std::clamp<std::int64_t>(
      round_down(panel_elements / blocking.depth, 2 * kTileRows), 2 * kTileRows, kMaxRows);
  return blocking;
}

}  // namespace switchyard::gemm
