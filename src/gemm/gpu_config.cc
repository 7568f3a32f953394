#include "gemm/gpu_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "gemm/int4_layout.h"
#include "gemm/mma_layout.h"

namespace switchyard::gemm {
namespace {

constexpr int kShareOfL2 = 2;  // rows of a band may fill half of L2: weights stream past them
constexpr int kMaxThreadsPerSm = 2048;
constexpr int kRegistersPerSm = 65536;
constexpr int kReservedShared = 1024;  // that the driver takes of every CTA

std::string_view name_of(GpuTile tile) noexcept {
  switch (tile) {
    case GpuTile::few: return "few";
    case GpuTile::some: return "some";
    case GpuTile::many: return "many";
    case GpuTile::wide: return "wide";
  }
  return "?";
}

GpuTile choose_tile(const GpuProblem& p) noexcept {
  const std::int64_t mean = p.num_experts > 0 ? (p.rows + p.num_experts - 1) / p.num_experts : 0;
  if (mean <= 16) return GpuTile::few;
  if (mean <= 96) return GpuTile::some;
  return p.arch >= 90 && p.arch < 100 && !p.integer_weights ? GpuTile::wide : GpuTile::many;
}

int ctas_per_sm(const GpuTileShape& shape, const GpuProblem& p) noexcept {
  const int shared = shape.shared_bytes + schedule_bytes(p.num_experts, shape.threads);
  const int by_shared = p.shared_per_sm / (shared + kReservedShared);
  // Kernels are compiled for one CTA per SM where threads > 128 and for two otherwise.
  const int by_registers = shape.threads > 128 ? 1 : kRegistersPerSm / (shape.threads * 255);
  return std::max(1, std::min({by_shared, by_registers, kMaxThreadsPerSm / shape.threads}));
}

}  // namespace

GpuTileShape shape_of(GpuTile tile, bool integer_weights) noexcept {
  GpuTileShape s;
  switch (tile) {
    case GpuTile::few: s = {16, 64, 128, 8, 0}; break;
    case GpuTile::some: s = {64, 128, 128, integer_weights ? 4 : 3, 0}; break;
    case GpuTile::many:
      s = integer_weights ? GpuTileShape{128, 128, 256, 4, 0} : GpuTileShape{128, 256, 256, 3, 0};
      break;
    case GpuTile::wide: s = {128, 256, 384, 4, 0}; break;
  }
  const int column_bytes = integer_weights ? kMostRecordBytes / kRecordColumns : kRowBytes;
  s.shared_bytes = s.stages * (s.rows * kRowBytes + s.columns * column_bytes);
  if (tile == GpuTile::few) s.shared_bytes += 3 * 16 * 64 * 4;        // sums of three of its warps
  if (tile == GpuTile::wide) s.shared_bytes += 1024 + s.stages * 16;  // alignment, barriers
  return s;
}

GpuConfig choose_config(const GpuProblem& p) noexcept {
  GpuConfig c;
  c.tile = choose_tile(p);
  c.shape = shape_of(c.tile, p.integer_weights);
  const std::int64_t columns = (p.columns + c.shape.columns - 1) / c.shape.columns;
  const std::int64_t tile_bytes = std::max<std::int64_t>(1, p.depth * 2 * c.shape.rows);
  c.grid = {
      p.num_experts, c.shape.rows, static_cast<int>(columns),
      static_cast<int>(std::clamp<std::int64_t>(p.l2_bytes / kShareOfL2 / tile_bytes, 1, 1 << 20))};
  c.ctas_per_sm = ctas_per_sm(c.shape, p);
  // Every expert may leave a tile that is not full.
  const std::int64_t row_tiles =
      p.rows / c.shape.rows + std::min<std::int64_t>(p.num_experts, p.rows);
  const std::int64_t slots = static_cast<std::int64_t>(p.multiprocessors) * c.ctas_per_sm;
  c.ctas = static_cast<int>(
      std::clamp<std::int64_t>(row_tiles * columns, 1, std::max<std::int64_t>(1, slots)));
  return c;
}

std::string to_string(const GpuProblem& p, const GpuConfig& c) {
  return fmt::format(
      "grouped {}x{}x{} x{}: {} {}x{}x{}, {} stages, {} KiB, {} CTAs ({} on each of {} SMs), bands "
      "of {} tiles",
      p.rows, p.columns, p.depth, p.num_experts, name_of(c.tile), c.shape.rows, c.shape.columns,
      kTileDepth, c.shape.stages, c.shape.shared_bytes / 1024, c.ctas, c.ctas_per_sm,
      p.multiprocessors, c.grid.band_tiles);
}

}  // namespace switchyard::gemm
