#include "gemm/panel.h"

#include <algorithm>
#include <cstring>

#include "gemm/split_tiles.h"

namespace switchyard::gemm {
namespace {

// Columns of one row are contiguous in runs this long in every format.
constexpr std::int64_t kRun = kDepthUnit;
// Rows are copied side by side: as many reads in flight. 256 rows of 4 KiB at random places of 16
// MiB take 0.24 ms one after another, 0.13 by four or more at a time.
constexpr std::int64_t kStreams = 4;

template <class From, class To>
void convert_run(const From* from, std::int64_t count, To* to) noexcept {
  for (std::int64_t i = 0; i < count; ++i) to[i] = from_float<To>(to_float(from[i]));
}

template <class T>
void convert_run(const T* from, std::int64_t count, T* to) noexcept {
  if (count == kRun) {
    std::memcpy(to, from, sizeof(T) * kRun);  // a constant size: vector moves, no call
  } else {
    std::memcpy(to, from, sizeof(T) * static_cast<std::size_t>(count));
  }
}

template <class From, class To>
void fill(const PanelShape& shape, const ConstMatrixView& x, const std::int32_t* row_index,
          std::int64_t rows, std::int64_t k_begin, std::byte* panel) noexcept {
  const std::int64_t columns = std::clamp<std::int64_t>(x.cols - k_begin, 0, shape.depth);
  const std::int64_t whole = columns / kRun * kRun;
  const std::int64_t run_bytes = shape.format == PanelFormat::tiles
                                     ? kTileRows * kRun * static_cast<std::int64_t>(sizeof(To))
                                     : kRun * static_cast<std::int64_t>(sizeof(To));
  const std::int64_t tile_rows = shape.tile_rows;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kStreams) {
    const std::int64_t streams = std::min(kStreams, rows - r0);
    const From* from[kStreams];
    std::byte* to[kStreams];
    for (std::int64_t i = 0; i < streams; ++i) {
      const std::int64_t r = r0 + i;
      from[i] = reinterpret_cast<const From*>(x.row(row_index ? row_index[r] : r)) + k_begin;
      to[i] = panel + r / tile_rows * shape.tile_bytes() + r % tile_rows * shape.row_bytes();
    }
    std::int64_t k = 0;
    for (; k < whole; k += kRun) {
      for (std::int64_t i = 0; i < streams; ++i, to[i - 1] += run_bytes) {
        convert_run(from[i] + k, kRun, reinterpret_cast<To*>(to[i]));
      }
    }
    for (; k < shape.depth; k += kRun) {
      for (std::int64_t i = 0; i < streams; ++i, to[i - 1] += run_bytes) {
        std::memset(to[i], 0, sizeof(To) * kRun);
        if (k < columns) convert_run(from[i] + k, columns - k, reinterpret_cast<To*>(to[i]));
      }
    }
  }
  zero_tail_rows(shape, rows, panel);
}

void fill_split(const PanelShape& shape, const ConstMatrixView& x, const std::int32_t* row_index,
                std::int64_t rows, std::int64_t k_begin, std::byte* panel) noexcept {
  const std::int64_t height = split_tile_rows(rows), part_bytes = height * kRun * 2;
  const std::int64_t tile_bytes = part_bytes * kSplitParts * (shape.depth / kRun);
  const auto to = [&](std::int64_t r) {
    return panel + r / height * tile_bytes + r % height * kRun * 2;
  };
  SplitRows part{.from = {},
                 .to = {},
                 .count = 0,
                 .columns = std::clamp<std::int64_t>(x.cols - k_begin, 0, shape.depth),
                 .depth = shape.depth,
                 .part_bytes = part_bytes};
  for (std::int64_t r0 = 0; r0 < rows; r0 += SplitRows::kMost) {
    part.count = static_cast<int>(std::min<std::int64_t>(SplitRows::kMost, rows - r0));
    for (int i = 0; i < part.count; ++i) {
      const std::int64_t r = r0 + i;
      part.from[i] = reinterpret_cast<const float*>(x.row(row_index ? row_index[r] : r)) + k_begin;
      part.to[i] = to(r);
    }
    shape.split(part);
  }
  const std::int64_t missing = round_up(rows, height) - rows;
  for (std::int64_t k = 0; missing > 0 && k < shape.depth / kRun * kSplitParts; ++k) {
    std::memset(to(rows) + k * part_bytes, 0, static_cast<std::size_t>(missing * kRun * 2));
  }
}

}  // namespace

// Parts of deep tiles are used, all rows of a part at once. Tiles an odd number of 512 depths apart
// spread their parts evenly over the sets of L2: 22 parts of 1600 depths, cut from 14336 each,
// would otherwise share two fifths of them.
constexpr std::int64_t tile_depth(std::int64_t depth) noexcept {
  constexpr std::int64_t kUnit = 512;
  return depth <= 8 * kUnit ? depth : (depth + kUnit - 1) / kUnit * kUnit | kUnit;
}

PanelShape::PanelShape(const Kernel& kernel, std::int64_t columns)
    : format(kernel.format),
      element(kernel.panel),
      depth(round_up(columns, kDepthUnit)),
      split(kernel.split) {}

PanelShape PanelShape::of_outputs(const Kernel& kernel, std::int64_t columns) {
  PanelShape shape(kernel, columns);
  if (shape.format == PanelFormat::split_tiles) shape.format = PanelFormat::rows;
  return shape;
}

std::int64_t PanelShape::stride() const noexcept {
  if (format == PanelFormat::tiles) return kTileRows * tile_depth(depth);
  if (format == PanelFormat::split_tiles) return depth;
  return depth + 64 / static_cast<std::int64_t>(size_of(element));
}

std::int64_t PanelShape::bytes(std::int64_t rows) const noexcept {
  if (format == PanelFormat::split_tiles) {
    return round_up(rows, kTileRows) * depth * kSplitParts * 2;
  }
  const std::int64_t strides = format == PanelFormat::tiles ? round_up(rows, 16) / 16 : rows;
  return strides * stride() * static_cast<std::int64_t>(size_of(element));
}

std::int64_t PanelShape::offset(std::int64_t row, std::int64_t k) const noexcept {
  const auto size = static_cast<std::int64_t>(size_of(element));
  if (format == PanelFormat::rows) return (row * stride() + k) * size;
  return (row / kTileRows * stride() + k / kDepthUnit * kTileRows * kDepthUnit + k % kDepthUnit) *
         size;
}

std::int64_t PanelShape::row_bytes() const noexcept {
  const auto size = static_cast<std::int64_t>(size_of(element));
  return (format == PanelFormat::tiles ? kDepthUnit : stride()) * size;
}

std::int64_t PanelShape::tile_bytes() const noexcept {
  const auto size = static_cast<std::int64_t>(size_of(element));
  return (format == PanelFormat::tiles ? stride() : kTileRows * stride()) * size;
}

void fill_panel(const PanelShape& shape, const ConstMatrixView& x, const std::int32_t* row_index,
                std::int64_t rows, std::int64_t k_begin, std::byte* panel) noexcept {
  if (shape.format == PanelFormat::split_tiles) {
    return fill_split(shape, x, row_index, rows, k_begin, panel);
  }
  const bool wide = shape.element == DType::f32;
  switch (x.dtype) {
    case DType::f32:
      // bf16 panels are for bf16 activations only (find_kernel), so f32 and f16 stay wide.
      return fill<float, float>(shape, x, row_index, rows, k_begin, panel);
    case DType::f16: return fill<f16, float>(shape, x, row_index, rows, k_begin, panel);
    case DType::bf16:
      return wide ? fill<bf16, float>(shape, x, row_index, rows, k_begin, panel)
                  : fill<bf16, bf16>(shape, x, row_index, rows, k_begin, panel);
  }
}

void zero_tail_rows(const PanelShape& shape, std::int64_t rows, std::byte* panel) noexcept {
  const std::int64_t filled = rows % shape.tile_rows;
  if (shape.format != PanelFormat::tiles || filled == 0) return;
  std::byte* tile = panel + rows / shape.tile_rows * shape.tile_bytes();
  const std::int64_t step = kTileRows * shape.row_bytes();
  for (std::int64_t k = 0; k < shape.depth; k += kDepthUnit, tile += step) {
    std::memset(tile + filled * shape.row_bytes(), 0,
                static_cast<std::size_t>((shape.tile_rows - filled) * shape.row_bytes()));
  }
}

}  // namespace switchyard::gemm
