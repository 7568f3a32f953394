#include "layer/mix.h"

#include <algorithm>

#include "base/context.h"

namespace switchyard {
namespace {

// A tile of sums stays in L1 and the registers' reach, and reads each piece of x once for all its
// rows; x is converted piece by piece.
constexpr int kRows = 8;
constexpr int kColumns = 128;

template <class T>
void mix_tile(const float* weight, std::int64_t depth, int num_rows, const ConstMatrixView& x,
              std::int64_t column, int num_columns, const MatrixView& out,
              std::int64_t row) noexcept {
  alignas(64) float sum[kRows][kColumns] = {};
  alignas(64) float piece[kColumns] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    const T* from = reinterpret_cast<const T*>(x.row(k)) + column;
    for (int j = 0; j < num_columns; ++j) piece[j] = to_float(from[j]);
    for (int r = 0; r < num_rows; ++r) {
      const float w = weight[r * depth + k];
      for (int j = 0; j < kColumns; ++j) sum[r][j] += w * piece[j];
    }
  }
  for (int r = 0; r < num_rows; ++r) {
    T* to = reinterpret_cast<T*>(out.row(row + r)) + column;
    for (int j = 0; j < num_columns; ++j) to[j] = from_float<T>(sum[r][j]);
  }
}

template <class T>
void mix_as(Context& context, const float* weight, const ConstMatrixView& x,
            const MatrixView& out) {
  const std::int64_t row_tiles = (out.rows + kRows - 1) / kRows;
  const std::int64_t column_tiles = (out.cols + kColumns - 1) / kColumns;
  pool_of(context).for_each(row_tiles * column_tiles, [&](std::int64_t tile, int) {
    const std::int64_t row = tile / column_tiles * kRows, column = tile % column_tiles * kColumns;
    mix_tile<T>(weight + row * x.rows, x.rows,
                static_cast<int>(std::min<std::int64_t>(kRows, out.rows - row)), x, column,
                static_cast<int>(std::min<std::int64_t>(kColumns, out.cols - column)), out, row);
  });
}

}  // namespace

void mix(Context& context, std::span<const float> weight, ConstMatrixView x, MatrixView out) {
  switch (out.dtype) {
    case DType::f32: return mix_as<float>(context, weight.data(), x, out);
    case DType::bf16: return mix_as<bf16>(context, weight.data(), x, out);
    case DType::f16: return mix_as<f16>(context, weight.data(), x, out);
  }
}

}  // namespace switchyard
