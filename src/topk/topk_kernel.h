#pragma once

#include <cstdint>

// The contract of the family. Every variant gives the same bits: exp is one formula without fused
// multiply-add, and sums run in one order.

namespace switchyard {

/// weight[r, k] *= factor / (epsilon + the sum over k of weight[r, k], in that order)
struct TopkShare {
  float epsilon, factor;
};

/// x: num_rows rows of E f32, `row_stride` elements apart; 1 <= K <= E. For each row r,
/// with m = max_e x[r,e]:
///   index[r, 0..K)  the columns of the K largest values, falling; equal values (-0 = +0) by
///                   rising column
///   weight[r, k]    exp((x[r, index[r,k]] - m) * scale)
///                   and then by `share`, where there is one
///   max[r]          m
///   sum[r]          sum over all E of exp((x[r,e] - m) * scale)
///   num_chosen[e]   grows by the number of rows that chose column e
/// max, sum and num_chosen may be null. Where m is infinite, weight and sum hold anything, without
/// `share` anything but NaN.
struct TopkArgs {
  const float* x;
  std::int64_t row_stride;
  std::int64_t num_rows;
  int num_columns;  // E
  int k;            // K
  float scale;
  std::int32_t* index;
  float* weight;
  float* max;
  float* sum;
  const TopkShare* share = nullptr;
  std::int32_t* num_chosen = nullptr;
  bool in_order = false;  ///< memory is best read in order (CpuFeatures::reads_in_order)
};

/// Returns the first row that holds a NaN (rows from there on hold anything, and so does
/// num_chosen), or num_rows.
using TopkKernel = std::int64_t (*)(const TopkArgs& args) noexcept;

/// y[i] = 1 / (1 + exp(-x[i])) for i < count; below -87 it is 0. Returns whether any x is NaN.
using SigmoidKernel = bool (*)(const float* x, std::int64_t count, float* y) noexcept;

// exp(x) for x <= 0: x = n ln2 + r with |r| <= ln2/2, exp(x) = 2^n (1 + r + r^2 q(r)). q of degree
// 4 interpolates (e^r - 1 - r) / r^2 at the Chebyshev nodes: relative error 1e-8, so the rounding
// of f32 dominates. ln2 is split so that n * kLn2High is exact. Below kExpMin, where 2^n nears the
// subnormals, the result is 0; so it is for NaN.
inline constexpr float kExpMin = -87.0f;
inline constexpr float kLog2e = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.63p-1f;
inline constexpr float kLn2Low = -0x1.bd0106p-13f;
inline constexpr float kExpQ[] = {0.5f, 0x1.5554dep-3f, 0x1.55551ap-5f, 0x1.120b62p-7f,
                                  0x1.6d10fcp-10f};
// Adding it rounds |x| < 2^22 to an integer, which then stands in the low bits.
inline constexpr float kRound = 0x1.8p+23f;

// sum[r] adds column e into partial sum e % kSumLanes, then folds the upper half of the partial
// sums onto the lower until one is left.
inline constexpr int kSumLanes = 16;

}  // namespace switchyard
