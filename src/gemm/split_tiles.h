#pragma once

#include "gemm/gemm_kernel.h"

// Internal linkage throughout: each ISA's kernels get a copy of their own.
namespace switchyard::gemm {
namespace {

/// f32 as a sum of bf16: three times eight bits of significand and their signs hold all 24.
constexpr std::int64_t kSplitParts = 3;

/// Height of the tiles of a panel of `rows` in the split_tiles format, all of them as high. Pairs
/// of tiles share what is loaded, so there is one more where that makes their number even in the
/// same memory. An odd number of tiles, but for one alone, is of whole ones: the last is multiplied
/// with weights in tiles that pairs use for sums (amx_split_begin).
constexpr std::int64_t split_tile_rows(std::int64_t rows) noexcept {
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  if (tiles == 1 || tiles % 2 == 0) return (rows + tiles - 1) / tiles;
  const std::int64_t lower = (rows + tiles) / (tiles + 1);
  const bool is_even = tiles * lower < rows && (tiles + 1) * lower <= tiles * kTileRows;
  return is_even ? lower : kTileRows;
}

}  // namespace
}  // namespace switchyard::gemm
