#pragma once

#include <cstdint>

#include "base/host_device.h"

// Which tile of a grouped product a persistent CTA computes next, as a function that device and
// tests share. Tile i belongs to CTA i mod grid, so CTAs that run together have consecutive tiles.
//
// Order: experts; within one, bands of rows; within a band, columns of tiles, the rows of a column
// innermost. So a tile of weights is wanted by all row tiles of a band at nearly one time, is read
// from memory once a band and otherwise found in L2, while the band's rows stay in L2 from the
// first column to the last. Bytes from memory per expert: weights * bands + rows.

namespace switchyard::gemm {

/// What of a product the order depends on.
struct TileGrid {
  int num_experts = 0;
  int tile_rows = 0;
  int column_tiles = 0;  ///< tiles across the (packed) columns
  int band_tiles = 1;    ///< row tiles in a band
};

/// One tile of the output. `row` counts from the expert's first row.
struct Tile {
  int expert = 0;
  int column_tile = 0;
  std::int64_t row = 0;
  int rows = 0;  ///< of tile_rows, how many exist; > 0
};

SWITCHYARD_HD constexpr std::int64_t row_tiles_of(std::int64_t rows, int tile_rows) noexcept {
  return (rows + tile_rows - 1) / tile_rows;
}

/// The expert e with tiles_begin[e] <= row_tile < tiles_begin[e + 1]; experts without rows are
/// passed over. tiles_begin [E+1] is the running sum of row_tiles_of, row_tile < tiles_begin[E].
SWITCHYARD_HD constexpr int expert_of_row_tile(const std::int32_t* tiles_begin, int num_experts,
                                               std::int64_t row_tile) noexcept {
  int low = 0, high = num_experts;  // tiles_begin[low] <= row_tile < tiles_begin[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (tiles_begin[middle] <= row_tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

SWITCHYARD_HD constexpr std::int64_t num_tiles(const TileGrid& grid,
                                               const std::int32_t* tiles_begin) noexcept {
  return static_cast<std::int64_t>(tiles_begin[grid.num_experts]) * grid.column_tiles;
}

/// Tile `index` of num_tiles. `expert_rows` [E] are the counts that tiles_begin was made from.
SWITCHYARD_HD constexpr Tile tile_at(const TileGrid& grid, const std::int32_t* tiles_begin,
                                     const std::int64_t* expert_rows, std::int64_t index) noexcept {
  const int expert = expert_of_row_tile(tiles_begin, grid.num_experts, index / grid.column_tiles);
  const std::int64_t first = tiles_begin[expert];
  const std::int64_t row_tiles = tiles_begin[expert + 1] - first;
  const std::int64_t within = index - first * grid.column_tiles;
  const std::int64_t band_size = static_cast<std::int64_t>(grid.band_tiles) * grid.column_tiles;
  const std::int64_t band_begin = within / band_size * grid.band_tiles;
  const std::int64_t left = row_tiles - band_begin;
  const std::int64_t band_rows = left < grid.band_tiles ? left : grid.band_tiles;
  const std::int64_t in_band = within % band_size;
  Tile tile;
  tile.expert = expert;
  tile.column_tile = static_cast<int>(in_band / band_rows);
  tile.row = (band_begin + in_band % band_rows) * grid.tile_rows;
  const std::int64_t rows = expert_rows[expert] - tile.row;
  tile.rows = static_cast<int>(rows < grid.tile_rows ? rows : grid.tile_rows);
  return tile;
}

/// Fills tiles_begin [E+1] by all threads of a CTA, each of which sums its share of the experts and
/// then adds the shares before its own. `partial` has room for a value of each thread. `sync` is
/// the CTA's barrier; tiles_begin may be read after the call.
template <class Sync>
SWITCHYARD_HD void make_tiles_begin(const TileGrid& grid, const std::int64_t* expert_rows,
                                    int thread, int threads, std::int32_t* tiles_begin,
                                    std::int32_t* partial, Sync&& sync) {
  const int share = (grid.num_experts + threads - 1) / threads;
  const int begin = thread * share < grid.num_experts ? thread * share : grid.num_experts;
  const int end = begin + share < grid.num_experts ? begin + share : grid.num_experts;
  std::int32_t sum = 0;
  for (int e = begin; e < end; ++e) {
    sum += static_cast<std::int32_t>(row_tiles_of(expert_rows[e], grid.tile_rows));
  }
  partial[thread] = sum;
  sync();
  std::int32_t before = 0;
  for (int t = 0; t < thread; ++t) before += partial[t];
  if (thread == 0) tiles_begin[0] = 0;
  for (int e = begin; e < end; ++e) {
    before += static_cast<std::int32_t>(row_tiles_of(expert_rows[e], grid.tile_rows));
    tiles_begin[e + 1] = before;
  }
  sync();
}

}  // namespace switchyard::gemm
