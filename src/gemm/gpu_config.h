#pragma once

#include <cstdint>
#include <string>

#include "gemm/tile_schedule.h"

// Problem -> configuration -> launch, as plain values that can be printed: which kernel and tile a
// grouped product on a GPU gets, and what that tile costs in shared memory. Needs no GPU.

namespace switchyard::gemm {

/// The tiles that kernels are compiled for. Rows and (packed) columns of the output; 64 deep.
///   few   16 x 64   mma.sync, 4 warps that share the depth
///   some  64 x 128  mma.sync, 4 warps of 32 x 64
///   many  128 x 256 mma.sync, 8 warps of 64 x 64
///         (int4 weights: 128 x 128, 8 warps of 32 x 64)
///   wide  128 x 256 wgmma (sm_90a), 2 consumer warpgroups of 64 x 256 and a producer
enum class GpuTile { few, some, many, wide };

struct GpuTileShape {
  int rows = 0;
  int columns = 0;
  int threads = 0;
  int stages = 0;
  int shared_bytes = 0;  ///< stages, and what else the kernel keeps there but the tile schedule
};

/// Everything the choice depends on.
struct GpuProblem {
  int num_experts = 0;
  std::int64_t rows = 0;     ///< kept rows, or the most there can be
  std::int64_t columns = 0;  ///< packed ones
  std::int64_t depth = 0;
  int arch = 80;                 ///< 80, 90, ...
  int multiprocessors = 0;       ///< SMs
  std::int64_t l2_bytes = 0;     ///< of the device
  int shared_per_sm = 0;         ///< bytes
  bool integer_weights = false;  ///< int4, which mma.sync dequantises in registers
};

struct GpuConfig {
  GpuTile tile = GpuTile::few;
  GpuTileShape shape;
  TileGrid grid;
  int ctas = 0;         ///< persistent CTAs to launch
  int ctas_per_sm = 0;  ///< that fit
};

GpuTileShape shape_of(GpuTile tile, bool integer_weights) noexcept;

/// Bytes of the schedule that a CTA of `threads` makes for `num_experts` in shared memory.
constexpr int schedule_bytes(int num_experts, int threads) noexcept {
  return (num_experts + 1 + threads) * 4;
}

/// By the mean rows of an expert, since counts are on the device: tiles of 16 up to 16 rows, of 64
/// up to 96, else of 128. Below these a product is bound by its weights' bytes and taller tiles
/// only multiply zeros; above, a taller tile reads the weights from L2 less often.
GpuConfig choose_config(const GpuProblem& problem) noexcept;

/// "grouped 4096x2048x2048 x64: some 64x128x64, 3 stages, 72 KiB, 216 CTAs (2 on each of 108 SMs),
/// bands of 80 tiles": rows, packed columns, depth, experts, and what they get.
std::string to_string(const GpuProblem& problem, const GpuConfig& config);

}  // namespace switchyard::gemm
