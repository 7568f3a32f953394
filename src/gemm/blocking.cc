#include "gemm/blocking.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "gemm/panel.h"
#include "gemm/split_tiles.h"

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kVectorRows = 96;
constexpr std::int64_t kSplitRows = 576;
constexpr std::int64_t kVectorRowUnit = 48;  // blocks of 12 and of 6 rows, and tiles
constexpr std::int64_t kMaxRows = 512;
constexpr std::int64_t kMaxByteRows = 640;
// Of tiles: whole chunks of the kernel for many rows, eight streams of that for few.
constexpr std::int64_t kPartUnit = 512;

std::int64_t round_down(std::int64_t n, std::int64_t unit) {
  return std::max(unit, n / unit * unit);
}

std::int64_t panel_bytes(const CacheSizes& caches) {
  return (caches.l2 > 0 ? caches.l2 : 512 << 10) / 8 * 5;
}

// n cut into the fewest equal parts of at most `most`, rounded up to `unit`.
std::int64_t equal_part(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t parts = std::max<std::int64_t>(1, (n + most - 1) / most);
  return round_up((n + parts - 1) / parts, unit);
}

}  // namespace

std::string Blocking::to_string() const { return fmt::format("rows {} depth {}", rows, depth); }

Blocking choose_blocking(const Kernel& kernel, std::int64_t depth, const CacheSizes& caches) {
  const auto panel_size = static_cast<std::int64_t>(size_of(kernel.panel));
  if (kernel.format == PanelFormat::tiles) return choose_blocking(panel_size, depth, caches);

  if (kernel.format == PanelFormat::split_tiles) {
    const std::int64_t elements = panel_bytes(caches) / (2 * kSplitParts);
    const std::int64_t part =
        equal_part(depth, round_down(elements / kSplitRows, kDepthUnit), kDepthUnit);
    return {round_down(std::min(elements / part, kMaxByteRows), 2 * kTileRows), part};
  }
  const std::int64_t elements = panel_bytes(caches) / panel_size;
  const std::int64_t part =
      equal_part(depth, round_down(elements / kVectorRows, kDepthUnit), kDepthUnit);
  return {round_down(std::min(elements / part, kMaxRows), kVectorRowUnit), part};
}

Blocking choose_blocking(std::int64_t panel_size, std::int64_t depth, const CacheSizes& caches) {
  const std::int64_t elements = panel_bytes(caches) / panel_size;
  const auto with_depth = [&](std::int64_t part) {
    const std::int64_t rows = round_down(elements / part, 2 * kTileRows);
    return Blocking{std::min(rows, panel_size == 1 ? kMaxByteRows : kMaxRows), part};
  };
  const auto cost = [&](const Blocking& b) {
    const auto size = static_cast<double>(panel_size);
    return size / static_cast<double>(b.rows) +
           (b.depth < depth ? 16.0 / static_cast<double>(b.depth) : 0.0);
  };
  const auto deepest = static_cast<std::int64_t>(2 * std::sqrt(static_cast<double>(elements)));
  const Blocking whole = with_depth(depth);
  const Blocking parts = with_depth(equal_part(depth, round_down(deepest, kPartUnit), kPartUnit));
  return whole.rows * whole.depth <= elements && cost(whole) <= cost(parts) ? whole : parts;
}

}  // namespace switchyard::gemm
