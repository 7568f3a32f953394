#include "gemm/prepack_layout.h"

#include <algorithm>

#include "base/check.h"
#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"
#include "gemm/split_tiles.h"

namespace switchyard::gemm {
namespace {

/// How one stripe of 32 columns lies.
struct StripeFormat {
  std::int64_t half;      ///< from a column j < 16 to column j + 16
  std::int64_t column;    ///< from a column to the next of the same half
  TensorLayout depth;     ///< k, the innermost coordinates first
  std::int64_t elements;  ///< from a stripe to the next
};

TensorLayout over_stripes(const StripeFormat& format, std::int64_t rows, bool gated) {
  const std::int64_t columns = round_up(rows, kStripeColumns);
  if (gated) {
    const TensorLayout row(int_tuple(16, columns / 16), int_tuple(format.column, format.elements));
    const TensorLayout modes[] = {row, format.depth, TensorLayout(2, format.half)};
    return concatenate(modes);
  }
  return concatenate(TensorLayout(int_tuple(16, 2, columns / 32),
                                  int_tuple(format.column, format.half, format.elements)),
                     format.depth);
}

void require_matrix(std::int64_t rows, std::int64_t cols) {
  require(rows >= 1 && cols >= 1, "a weight matrix is [{}, {}]: expected at least 1 row and column",
          rows, cols);
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  require(rows <= kMost && cols <= kMost,
          "a weight matrix is [{}, {}]: expected at most {} of each", rows, cols, kMost);
}

}  // namespace

TensorLayout prepack_layout(DType dtype, std::int64_t rows, std::int64_t cols, bool gated) {
  require_matrix(rows, cols);
  const std::int64_t depth = round_up(cols, kDepthUnit), elements = depth * kStripeColumns;
  if (dtype == DType::bf16) {
    const TensorLayout k(int_tuple(2, 16, depth / 32), int_tuple(1, 32, 1024));
    return over_stripes({512, 2, k, elements}, rows, gated);
  }
  return over_stripes({16, 1, TensorLayout(depth, kStripeColumns), elements}, rows, gated);
}

TensorLayout prepack_layout(const QuantOptions& options, std::int64_t rows, std::int64_t cols,
                            bool gated) {
  require_matrix(rows, cols);
  if (options.format == QuantFormat::int8) {
    const std::int64_t depth = round_up(cols, kQuantDepthUnit);
    const TensorLayout k(int_tuple(4, 16, depth / 64), int_tuple(1, 64, 2048));
    const std::int64_t scales = kStripeColumns * 4;
    return over_stripes({1024, 4, k, depth * kStripeColumns + scales}, rows, gated);
  }
  const std::int64_t depth = round_up(cols, kInt4DepthUnit);
  const TensorLayout k(int_tuple(4, 2, depth / 8), int_tuple(2, 1, 256));
  const std::int64_t bytes = Int4Stripe(depth, options.group, options.zero_points).bytes;
  return over_stripes({128, 8, k, 2 * bytes}, rows, gated);
}

TensorLayout panel_layout(const PanelShape& shape, std::int64_t rows) {
  if (shape.format == PanelFormat::rows) {
    return {int_tuple(rows, shape.depth), int_tuple(shape.stride(), 1)};
  }
  if (shape.format == PanelFormat::split_tiles) {
    const std::int64_t height = split_tile_rows(rows), part = height * kDepthUnit;
    const std::int64_t steps = shape.depth / kDepthUnit, tiles = (rows + height - 1) / height;
    return {int_tuple(int_tuple(height, tiles), int_tuple(kDepthUnit, steps), kSplitParts),
            int_tuple(int_tuple(kDepthUnit, steps * kSplitParts * part),
                      int_tuple(1, kSplitParts * part), part)};
  }
  return {int_tuple(int_tuple(kTileRows, round_up(rows, kTileRows) / kTileRows),
                    int_tuple(kDepthUnit, shape.depth / kDepthUnit)),
          int_tuple(int_tuple(kDepthUnit, shape.stride()), int_tuple(1, kTileRows * kDepthUnit))};
}

}  // namespace switchyard::gemm
