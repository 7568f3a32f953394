#pragma once

#include <cstddef>
#include <cstdint>

namespace switchyard::gemm {

/// Columns of a weight stripe, and of the accumulators a kernel call fills.
inline constexpr std::int64_t kStripeColumns = 32;
/// Depth to which stripes and panels are padded with zeros.
inline constexpr std::int64_t kDepthUnit = 32;
/// Rows of a tile, the unit of panel rows.
inline constexpr std::int64_t kTileRows = 16;

/// Rows of the tiles of a block that share them evenly: the fewest tiles, none loading more rows
/// than it must.
constexpr std::int64_t even_tile_rows(std::int64_t rows) noexcept {
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return (rows + tiles - 1) / tiles;
}

/// The contract of a kernel: for one stripe, over all its depth or a part of it
///
///   acc[r, j] = (accumulate ? acc[r, j] : 0) + sum over k in [0, depth) of panel[r, k] * stripe[k,
///   j]
///
/// for r in [0, rows), j in [0, 32). acc is [rows rounded up to 16, 32] f32, 64-byte aligned; rows
/// of the last tile beyond `rows` may be written with anything.
///
/// Panels hold activations in one of three formats (prepack_layout.h states them, and those of
/// stripes, as layouts):
///   rows   element (r, k) at r * panel_stride + k
///   tiles  [r / 16][k / 32][r % 16][k % 32]; panel_stride = elements from one r / 16 to the next
/// With tiles, panel and acc may hold tile_rows rows in the first of each 16: row r is then where
/// row r / tile_rows * 16 + r % tile_rows would be.
///   split_tiles  [r / h][k / 32][part][r % h][k % 32] in bf16, element (r, k) being the sum of its
///          three parts; h by the number of rows (split_tiles.h); panel_stride = depth
/// Stripes hold 32 columns of weights, contiguous along depth:
///   f32, f16  element (k, j) at k * 32 + j
///   bf16      [k / 32][j / 16][k % 32 / 2][j % 16][k % 2]: the AMX B tile, twice
struct GemmArgs {
  const void* panel;
  std::int64_t panel_stride;  ///< elements
  const void* stripe;
  std::int64_t depth;  ///< a multiple of 32
  float* acc;
  std::int64_t rows;  ///< >= 1
  bool accumulate;
  /// Weights needed next; the kernel may spread prefetches of them into L2 over the call.
  const std::byte* prefetch;
  std::int64_t prefetch_bytes;
  std::int64_t tile_rows = kTileRows;  ///< in [1, 16], what `begin` was given
  /// 2 for tiles of bf16 with rows <= tile_rows: the stripe `stripe_bytes` further on, too, whose
  /// sums lie stripe_acc floats further on. What comes next then begins with two such stripes.
  std::int64_t stripes = 1;
  std::int64_t stripe_bytes = 0;
  std::int64_t stripe_acc = 0;
  /// Weights are best read in the order they lie in (CpuFeatures::reads_in_order).
  bool in_order = false;
};

/// A part of weights needed later: of each of the streams in which they are fetched, stride bytes
/// apart, some pairs of lines.
struct PrefetchPairs {
  static constexpr std::int64_t kStreams = 8;
  static constexpr std::int64_t kPair = 128;
  const std::byte* first = nullptr;
  std::int64_t stride = 0;
  std::int64_t pairs = 0;
};

/// f32 rows to be split into bf16 parts, side by side: part i of columns [k, k + 32), zero where
/// there are none, to to[r] + (k / 32 * 3 + i) * part_bytes.
struct SplitRows {
  static constexpr int kMost = 4;
  const float* from[kMost];
  std::byte* to[kMost];  ///< 64-byte aligned, as is part_bytes
  int count;
  std::int64_t columns;
  std::int64_t depth;  ///< a multiple of 32
  std::int64_t part_bytes;
};

using SplitFn = void (*)(const SplitRows&) noexcept;
using GemmFn = void (*)(const GemmArgs&) noexcept;

/// Thread state around a run of kernel calls, all with tiles of as many rows: the AMX tile
/// configuration, of split tiles by all rows. Nothing for the others.
using BeginFn = void (*)(std::int64_t tile_rows) noexcept;
using EndFn = void (*)() noexcept;

#define SWITCHYARD_GEMM_KERNEL(isa, weights, panel, format) \
  void gemm_##weights##_##panel##_##isa(const GemmArgs& args) noexcept;
#include "gemm/kernels.inc"
#undef SWITCHYARD_GEMM_KERNEL

void amx_begin(std::int64_t tile_rows) noexcept;
void amx_end() noexcept;
void amx_split_begin(std::int64_t rows) noexcept;
void split_rows_amx_bf16(const SplitRows& rows) noexcept;

}  // namespace switchyard::gemm
