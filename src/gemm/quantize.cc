#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/context.h"
#include "base/names.h"
#include "switchyard/quant.h"

namespace switchyard {
namespace {

/// The scale and zero point of a group, and what the codes of its weights are.
struct Codes {
  float scale = 0;
  int zero = 0;
  int least = 0, most = 0;
  float inverse = 0;

  Codes(float s, int z, int low, int high) : zero(z), least(low), most(high) { rescale(s); }

  void rescale(float s) noexcept {
    scale = s;
    inverse = s != 0 ? 1 / s : 0;
  }
  int of(float w) const noexcept {
    // Beyond 2^20 steps a code is clamped anyway. Adding 1.5 * 2^23 rounds to an integer, ties to
    // even, which then stands in the low bits: unlike lrint it is done for many weights at once.
    constexpr float kRound = 0x1.8p23f;
    const float steps = std::min(std::max(w * inverse, -0x1p20f), 0x1p20f) + kRound;
    const int rounded = std::bit_cast<int>(steps) - std::bit_cast<int>(kRound);
    return std::min(std::max(rounded + zero, least), most);
  }
  float value(int code) const noexcept { return scale * static_cast<float>(code - zero); }
};

/// As the format holds it; one whose reciprocal f32 lacks counts as 0, and so do its weights.
float stored_scale(QuantFormat format, float scale) {
  if (format == QuantFormat::int4) return to_float(from_float<f16>(scale));
  return std::abs(scale) < 1e-37f ? 0 : scale;
}

double squared_error(std::span<const float> w, const Codes& codes) {
  double sum = 0;
  for (const float x : w) {
    const double error = codes.value(codes.of(x)) - x;
    sum += error * error;
  }
  return sum;
}

struct Range {
  float low, high;
};

/// With 0 in it. NaN are passed over.
Range range_of(std::span<const float> w) noexcept {
  constexpr std::size_t kLanes = 16;  // independent, so that they are compared side by side
  float low[kLanes] = {}, high[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= w.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float x = w[i + lane];
      low[lane] = x < low[lane] ? x : low[lane];
      high[lane] = x > high[lane] ? x : high[lane];
    }
  }
  for (; i < w.size(); ++i) {
    low[0] = w[i] < low[0] ? w[i] : low[0];
    high[0] = w[i] > high[0] ? w[i] : high[0];
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

/// The codes by the rule absmax: of symmetric weights the largest magnitude gets the largest code;
/// with zero points the range, with 0 in it, gets all codes.
Codes absmax_codes(std::span<const float> w, const QuantOptions& options) {
  const auto [low, high] = range_of(w);
  const float most = std::max(-low, high);
  if (options.format == QuantFormat::int8)
    return {stored_scale(options.format, most / 127), 128, 1, 255};
  if (!options.zero_points) return {stored_scale(options.format, most / 7), 8, 1, 15};
  Codes codes{stored_scale(options.format, (high - low) / 15), 0, 0, 15};
  if (codes.scale > 0) {
    codes.zero = std::min(15, static_cast<int>(std::lrint(-low * codes.inverse)));
  }
  return codes;
}

Codes best_codes(std::span<const float> w, const QuantOptions& options) {
  constexpr int kSteps = 20;
  const Codes widest = absmax_codes(w, options);
  Codes best = widest;
  double least = squared_error(w, best);
  const auto consider = [&](Codes codes) {
    const double error = squared_error(w, codes);
    if (error < least) {
      least = error;
      best = codes;
    }
  };
  const bool has_spare_code = options.format == QuantFormat::int4 && !options.zero_points;
  for (int step = 0; step <= kSteps; ++step) {
    Codes codes = widest;
    codes.rescale(stored_scale(options.format,
                               widest.scale * (1.0f - 0.4f * static_cast<float>(step) / kSteps)));
    consider(codes);
    if (!has_spare_code) continue;
    codes.least = 0;  // -8, for the sign that needs it
    consider(codes);
    codes.rescale(-codes.scale);
    consider(codes);
  }
  return best;
}

void validate(const ConstMatricesView& weights, const QuantOptions& options) {
  require(weights.count > 0 && weights.rows > 0 && weights.cols > 0,
          "weights are [{}, {}, {}]: expected positive sizes", weights.count, weights.rows,
          weights.cols);
  require(weights.data != nullptr, "weights are null");
  require_cpu("weights", weights.device);
  require(weights.row_stride >= weights.cols, "weights have row stride {}: expected at least {}",
          weights.row_stride, weights.cols);
  if (options.format == QuantFormat::int8) {
    require(!options.zero_points, "zero points are for int4: expected none with int8");
    return;
  }
  require(options.group == 32 || options.group == 64 || options.group == 128,
          "quantisation group is {}: expected 32, 64 or 128", options.group);
}

void widen_row(const ConstMatrixView& matrix, std::int64_t row, std::span<float> out) {
  const auto widen = [&](auto element) {
    const auto* from = reinterpret_cast<const decltype(element)*>(matrix.row(row));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = to_float(from[i]);
  };
  switch (matrix.dtype) {
    case DType::f32: return widen(float{});
    case DType::bf16: return widen(bf16{});
    case DType::f16: return widen(f16{});
  }
}

constexpr std::int64_t kNothing = std::numeric_limits<std::int64_t>::max();

QuantizedMatrices empty_like(const ConstMatricesView& weights, const QuantOptions& options) {
  const bool int4 = options.format == QuantFormat::int4;
  QuantizedMatrices out;
  out.format = options.format;
  out.count = weights.count;
  out.rows = weights.rows;
  out.cols = weights.cols;
  out.group = int4 ? options.group : weights.cols;
  const std::int64_t rows = out.count * out.rows;
  out.values.resize(static_cast<std::size_t>(rows * (int4 ? (out.cols + 1) / 2 : out.cols)));
  out.scales.resize(static_cast<std::size_t>(rows * out.groups()));
  if (options.zero_points) out.zeros.resize(out.scales.size());
  return out;
}

/// Returns whether all weights were finite.
bool encode(std::span<const float> w, const Codes& codes, std::uint8_t* out) noexcept {
  unsigned infinite = 0;
  for (std::size_t k = 0; k < w.size(); ++k) {
    infinite |= std::abs(w[k]) <= std::numeric_limits<float>::max() ? 0u : 1u;
    out[k] = static_cast<std::uint8_t>(codes.of(w[k]));
  }
  return infinite == 0;
}

void pack_nibbles(std::span<const std::uint8_t> codes, std::uint8_t* out) noexcept {
  const std::size_t pairs = codes.size() / 2;
  for (std::size_t i = 0; i < pairs; ++i) {
    out[i] = static_cast<std::uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
  }
  if (codes.size() % 2 != 0) out[pairs] = codes.back();
}

/// A thread's own.
struct RowScratch {
  std::vector<float> weights;
  std::vector<std::uint8_t> codes;
};

/// Row r of all, from its weights. Returns the first column of a group that has no codes, or
/// kNothing.
std::int64_t quantize_row(RowScratch& row, const QuantOptions& options, std::int64_t r,
                          QuantizedMatrices& out) {
  for (std::int64_t g = 0; g < out.groups(); ++g) {
    const std::int64_t begin = g * out.group, size = std::min(out.group, out.cols - begin);
    const std::span<const float> w(row.weights.data() + begin, static_cast<std::size_t>(size));
    const Codes codes =
        options.search == ScaleSearch::mse ? best_codes(w, options) : absmax_codes(w, options);
    const auto i = static_cast<std::size_t>(r * out.groups() + g);
    out.scales[i] = codes.scale;
    if (options.zero_points) out.zeros[i] = static_cast<std::uint8_t>(codes.zero);
    const bool finite = encode(w, codes, row.codes.data() + begin);
    if (!finite || !std::isfinite(codes.scale)) return begin;
  }
  if (out.format == QuantFormat::int4) {
    pack_nibbles(row.codes, out.values.data() + r * ((out.cols + 1) / 2));
  } else {
    std::copy(row.codes.begin(), row.codes.end(), out.values.data() + r * out.cols);
  }
  return kNothing;
}

}  // namespace

std::string_view name_of(QuantFormat format) noexcept {
  return format == QuantFormat::int8 ? "int8" : "int4";
}

std::int64_t QuantizedMatrices::bytes() const noexcept {
  return std::ssize(values) + std::ssize(scales) * (format == QuantFormat::int8 ? 4 : 2) +
         std::ssize(zeros);
}

QuantizedMatrices quantize(Context& context, const ConstMatricesView& weights,
                           const QuantOptions& options) {
  validate(weights, options);
  QuantizedMatrices out = empty_like(weights, options);
  const auto threads = static_cast<std::size_t>(context.threads());
  std::vector<std::int64_t> first_bad(threads, kNothing);
  std::vector<RowScratch> row_of_thread(threads);
  for (RowScratch& row : row_of_thread) {
    row.weights.resize(static_cast<std::size_t>(out.cols));
    row.codes.resize(row.weights.size());
  }
  pool_of(context).for_ranges(out.count * out.rows, 1,
                              [&](std::int64_t begin, std::int64_t end, int thread) {
                                RowScratch& row = row_of_thread[static_cast<std::size_t>(thread)];
                                for (std::int64_t r = begin; r < end; ++r) {
                                  widen_row(weights[r / out.rows], r % out.rows, row.weights);
                                  const std::int64_t bad = quantize_row(row, options, r, out);
                                  std::int64_t& first = first_bad[static_cast<std::size_t>(thread)];
                                  if (bad != kNothing) first = std::min(first, r * out.cols + bad);
                                }
                              });
  const std::int64_t bad = *std::min_element(first_bad.begin(), first_bad.end());
  require(bad == kNothing,
          "weights of matrix {}, row {}, near column {} are not finite, or too large for the "
          "scales of {}",
          bad / out.cols / out.rows, bad / out.cols % out.rows, bad % out.cols,
          name_of(out.format));
  return out;
}

void dequantize(Context& context, const QuantizedMatrices& m, MatrixView out) {
  const std::int64_t rows = m.count * m.rows;
  require_shape("out", out, rows, m.cols);
  require(out.dtype == DType::f32, "out is {}: expected f32", name_of(out.dtype));
  const bool int4 = m.format == QuantFormat::int4;
  pool_of(context).for_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      auto* to = reinterpret_cast<float*>(out.row(r));
      const std::uint8_t* values = m.values.data() + r * (int4 ? (m.cols + 1) / 2 : m.cols);
      for (std::int64_t k = 0; k < m.cols; ++k) {
        const auto i = static_cast<std::size_t>(r * m.groups() + k / m.group);
        const int code = int4 ? values[k / 2] >> (k % 2 * 4) & 15 : values[k];
        const int zero = m.zeros.empty() ? (int4 ? 8 : 128) : m.zeros[i];
        to[k] = m.scales[i] * static_cast<float>(code - zero);
      }
    }
  });
}

}  // namespace switchyard
