#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "switchyard/context.h"
#include "switchyard/experts.h"
#include "switchyard/view.h"

namespace switchyard {

/// Integer weights, w = scale * (u - zero):
///   int8  u in 1..255, zero 128, one f32 scale for each row (output channel)
///   int4  u in 0..15, one f16 scale and one zero point for each `group` columns of a row;
///         zero is 8 throughout in symmetric matrices
enum class QuantFormat : std::uint8_t { int8, int4 };

/// "int8" or "int4".
std::string_view name_of(QuantFormat format) noexcept;

/// How a scale is found.
///   absmax  the largest weight of a group gets the largest code: no weight is off by more than
///           half a step
///   mse     the least squared error among scales of 1.0 down to 0.6 times that one, and among the
///           two signs of the one code that has no opposite
enum class ScaleSearch : std::uint8_t { absmax, mse };

struct QuantOptions {
  QuantFormat format = QuantFormat::int4;
  std::int64_t group = 32;   ///< of int4: 32, 64 or 128 columns
  bool zero_points = false;  ///< of int4: a zero point a group instead of 8
  ScaleSearch search = ScaleSearch::absmax;
};

/// `count` matrices [rows, cols] of one format.
struct QuantizedMatrices {
  QuantFormat format = QuantFormat::int4;
  std::int64_t count = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t group = 0;            ///< columns that share a scale; int8: cols
  std::vector<std::uint8_t> values;  ///< int8 [count, rows, cols]; int4 [count, rows, (cols+1)/2],
                                     ///< two a byte, the even column in the low half
  std::vector<float> scales;         ///< [count, rows, groups]; of int4 each an f16 value
  std::vector<std::uint8_t> zeros;   ///< [count, rows, groups], or empty: all 8 (int4), 128 (int8)

  std::int64_t groups() const noexcept { return group > 0 ? (cols + group - 1) / group : 0; }
  /// Bytes of the format: values, scales (4 bytes in int8, 2 in int4), zero points (1).
  std::int64_t bytes() const noexcept;
};

/// Throws Error(invalid_argument) for options outside their ranges, weights that are not finite,
/// naming the first, and scales beyond f16.
QuantizedMatrices quantize(Context& context, const ConstMatricesView& weights,
                           const QuantOptions& options);

/// out[i, j] = scale * (u - zero), exact in f32. `out` is [count * rows, cols] f32.
void dequantize(Context& context, const QuantizedMatrices& matrices, MatrixView out);

/// Experts whose weights are integers; see ExpertWeights for the shapes.
struct QuantizedExperts {
  QuantizedMatrices gate;  ///< [E, F, H], or count 0
  QuantizedMatrices up;    ///< [E, F, H]
  QuantizedMatrices down;  ///< [E, H, F]
  Activation activation = Activation::silu;

  bool is_gated() const noexcept { return gate.count > 0; }
};

/// The implementation `grouped` on integer weights. Activations are quantised to int8 with one
/// scale a row (a token's, and the row's between up and down), absmax / 127; products and sums over
/// a group are exact integers. A row with a value that is not finite comes out as NaN.
/// On a CUDA device: int4 by bf16 or f16 activations, which stay as they are (W4A16); sums over 32
/// columns are scaled in f32.
/// Throws Error(invalid_argument) for shapes, formats or groups that do not fit each other.
std::unique_ptr<Experts> make_experts(Context& context, const QuantizedExperts& weights,
                                      DType activations);

/// The same for `num_experts` experts that come one at a time, for weights that do not fit into
/// memory twice: source(e) gives expert e, matrices of count 1.
std::unique_ptr<Experts> make_experts(
    Context& context, std::int64_t num_experts,
    const std::function<QuantizedExperts(std::int64_t expert)>& source, DType activations);

/// The same for any implementation. capacity and block multiply integers as grouped does. loop and
/// padded multiply what the integers stand for: each weight as bf16 where activations are bf16,
/// else as f32, by activations that are not quantised; while they are made those elements are held
/// twice; so does library, on CUDA devices only, all three in the activations' own dtype there.
/// Throws Error(unavailable) for masked_matmul.
std::unique_ptr<Experts> make_experts(
    Context& context, std::string_view implementation, std::int64_t num_experts,
    const std::function<QuantizedExperts(std::int64_t expert)>& source, DType activations);

}  // namespace switchyard
