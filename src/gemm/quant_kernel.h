#pragma once

#include <cstddef>
#include <cstdint>

#include "gemm/gemm_kernel.h"

namespace switchyard::gemm {

/// Depth to which integer stripes and rows are padded.
inline constexpr std::int64_t kQuantDepthUnit = 64;
inline constexpr std::int64_t kInt4DepthUnit = 128;
/// Codes of zero in symmetric weights.
inline constexpr std::int32_t kZeroOfInt8 = 128;
inline constexpr std::int32_t kZeroOfInt4 = 8;
/// Up to how many rows the kernels that take several stripes at once are given them.
inline constexpr std::int64_t kInt8StreamRows = 6;
inline constexpr std::int64_t kInt4StreamRows = 10;
/// int4 on AMX: up to how many rows the kernel without tiles is faster; stripes it is given at once
/// of up to kTileRows rows.
inline constexpr std::int64_t kInt4VectorRows = 3;
inline constexpr std::int64_t kInt4TileStripes = 4;
/// What a kernel may use besides its arguments.
inline constexpr std::int64_t kQuantScratchBytes = 36 << 10;

struct Finish;

/// The contract: for one stripe of unsigned codes u with scales s and zero points z, and rows of
/// signed 8-bit activations a with scales t,
///
///   acc[r, j] = t[r] * sum over groups g of s[g, j] * sum over k in g of a[r, k] (u[k, j] - z[g,
///   j])
///
/// over k in [0, depth), in parts [k_begin, k_end): acc holds something of the kernel's own between
/// parts, and the result after the last. acc is [rows rounded up to 16, 32] f32, 64-byte aligned.
/// The sum over k is an exact integer; z is taken off with the rows' own sums. The int4 kernel for
/// AMX, given more than 16 rows, first brings the groups of 512 to one scale (docs/numerics.md).
///
/// A stripe holds 32 columns, each part contiguous, codes and the whole at multiples of 64 bytes:
///   int8  codes  (k, j) at [k / 64][j / 16][k % 64 / 4][j % 16][k % 4]: the AMX B tile, twice
///         scales [32] f32
///   int4  scales [depth / group][32] f16
///         zeros  [depth / group][32] 8 bits, only with zero_points
///         codes  (k, j) at byte [k / 8][j / 16][j % 16][k % 4], the low half for k % 8 < 4
/// int4's scales come first, as they are needed: then stripes are read in the order they lie in
/// (quant_int4_x86_avx512_bf16.cc has what that gains). quant_int4_stripe.h computes the offsets.
struct QuantArgs {
  const std::int8_t* panel;      ///< a, row r at r * panel_stride
  std::int64_t panel_stride;     ///< a multiple of 64; rows up to the next 16 can be read
  const float* row_scale;        ///< t [rows]
  const std::int32_t* row_sums;  ///< minus the sum of a over each group, [rows, sums_stride]; for
                                 ///< int8 the whole depth is one group
  std::int64_t sums_stride;
  const std::byte* stripe;
  std::int64_t depth;  ///< whole, padded to 64 (int8) or 128 (int4)
  std::int64_t k_begin, k_end;
  std::int64_t group;
  bool zero_points;
  float* acc;
  std::int64_t rows;   ///< >= 1
  std::byte* scratch;  ///< kQuantScratchBytes, 64-byte aligned
  PrefetchPairs prefetch;
  /// Side by side; more than one only for as few rows, and at most as many, as the
  /// kernel's line in quant_kernels.inc says.
  std::int64_t stripes = 1;
  std::int64_t stripe_bytes = 0;  ///< from one to the next
  std::int64_t stripe_acc = 0;    ///< floats from one's acc to the next one's
  /// Of several stripes at once, and in order: the first of those that follow, as far apart, to be
  /// fetched meanwhile; may be null.
  const std::byte* next = nullptr;
  /// Weights are read in the order they lie in (CpuFeatures::reads_in_order), one stripe at a time.
  bool in_order = false;
  /// Of the kernels that finish rows themselves: what becomes of them. Null: acc, as above.
  const Finish* finish = nullptr;
};

using QuantFn = void (*)(const QuantArgs&) noexcept;

/// Scales rows [row, row + rows) of a stripe as the contract says and does with them what q.finish
/// says: `sums` are the integer sums, [rows, 32], of rows that have met all of the depth.
using FinishFn = void (*)(const QuantArgs& q, const float* sums, std::int64_t row,
                          std::int64_t rows) noexcept;

/// Where a stripe's rows go, as epilogue_kernel.h makes them of 32 columns. A stripe of elements of
/// 16 bits fills half a line or one, and memory takes two lines in a row best; so of two stripes
/// whose outputs pass the caches the first one's go to a small buffer, and the second one's
/// function writes both.
struct Finish {
  FinishFn run;
  std::byte* out;                   ///< of row 0
  std::int64_t row_bytes;           ///< of out
  std::int64_t columns = 32;        ///< of the kind store, in [1, 32]
  const std::byte* kept = nullptr;  ///< rows of the stripe before, one after another
};

/// One row of activations: out[k] = round(x[k] * 127 / max |x|) for k < cols, 0 up to depth;
/// sums[g] = -sum of out over group g. Returns max |x| / 127; NaN, and zeros in out, when a value
/// is not finite. All variants give the same bits.
struct RowArgs {
  const void* x;
  std::int64_t cols, depth;
  std::int64_t group;  ///< 32, or a multiple of 64; divides depth, a multiple of 64 too
  std::int8_t* out;
  std::int32_t* sums;
  PrefetchPairs prefetch = {};  ///< of rows that follow
  bool stream = false;          ///< out past the caches; 64-byte aligned
};

using RowFn = float (*)(const RowArgs&) noexcept;

/// The part of quant_int8_avx512_bf16 for weights read in order.
void quant_int8_in_order_avx512_bf16(const QuantArgs& args) noexcept;
/// The part of quant_int4_amx_bf16 for up to kTileRows rows.
void quant_int4_few_rows_amx_bf16(const QuantArgs& args) noexcept;

#define SWITCHYARD_QUANT_KERNEL(isa, weights, min_rows, stripes, stripe_rows) \
  void quant_##weights##_##isa(const QuantArgs& args) noexcept;
#define SWITCHYARD_QUANT_ROW_KERNEL(isa, element) \
  float quant_row_##element##_##isa(const RowArgs& args) noexcept;
#include "gemm/quant_kernels.inc"
#undef SWITCHYARD_QUANT_KERNEL
#undef SWITCHYARD_QUANT_ROW_KERNEL

}  // namespace switchyard::gemm
