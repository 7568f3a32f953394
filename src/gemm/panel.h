#pragma once

#include <cstdint>

#include "gemm/kernel.h"
#include "switchyard/view.h"

namespace switchyard::gemm {

/// How activations of `depth` columns lie for a kernel (formats in gemm_kernel.h).
struct PanelShape {
  PanelFormat format;
  DType element;
  std::int64_t depth;                  ///< padded to kDepthUnit
  std::int64_t tile_rows = kTileRows;  ///< of tiles: rows that each holds (gemm_kernel.h)
  SplitFn split = nullptr;             ///< of split tiles

  PanelShape(const Kernel& kernel, std::int64_t columns);
  /// Of the outputs of one product that are another one's input. Split tiles are made where they
  /// are multiplied, from rows of f32.
  static PanelShape of_outputs(const Kernel& kernel, std::int64_t columns);

  /// Elements between rows (rows format; 64 bytes longer than the row, so that 12 rows a power of
  /// two apart do not fall into one L1 set), between 16-row tiles (tiles), or of a row (split
  /// tiles).
  std::int64_t stride() const noexcept;

  std::int64_t bytes(std::int64_t rows) const noexcept;
  /// Byte offset of element (row, k); row and k multiples of 16 in the tiles format. Not of split
  /// tiles, whose places depend on the number of rows.
  std::int64_t offset(std::int64_t row, std::int64_t k) const noexcept;
  std::int64_t row_bytes() const noexcept;   ///< from a row to the next within a tile
  std::int64_t tile_bytes() const noexcept;  ///< from a tile to the next
};

/// panel[r, k] = x[row_index ? row_index[r] : r, k_begin + k], zero where k_begin + k is beyond x's
/// columns and, in the tiles formats, for the last tile's rows beyond `rows`.
/// Columns [0, shape.depth) of the panel are filled.
void fill_panel(const PanelShape& shape, const ConstMatrixView& x, const std::int32_t* row_index,
                std::int64_t rows, std::int64_t k_begin, std::byte* panel) noexcept;

/// Writes zeros to the last tile's rows beyond `rows`.
void zero_tail_rows(const PanelShape& shape, std::int64_t rows, std::byte* panel) noexcept;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) noexcept {
  return (n + unit - 1) / unit * unit;
}

}  // namespace switchyard::gemm
