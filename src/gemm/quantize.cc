#include <algorithm>
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

  int of(float w) const noexcept {
    if (scale == 0) return zero;
    const float code = std::nearbyint(w / scale) + static_cast<float>(zero);
    return static_cast<int>(
        std::fmin(std::fmax(code, static_cast<float>(least)), static_cast<float>(most)));
  }
  float value(int code) const noexcept { return scale * static_cast<float>(code - zero); }
};

float stored_scale(QuantFormat format, float scale) {
  return format == QuantFormat::int4 ? to_float(from_float<f16>(scale)) : scale;
}

double squared_error(std::span<const float> w, const Codes& codes) {
  double sum = 0;
  for (const float x : w) {
    const double error = codes.value(codes.of(x)) - x;
    sum += error * error;
  }
  return sum;
}

/// The codes by the rule absmax: of symmetric weights the largest magnitude gets the largest code;
/// with zero points the range, with 0 in it, gets all codes.
Codes absmax_codes(std::span<const float> w, const QuantOptions& options) {
  float low = 0, high = 0;
  for (const float x : w) {
    low = std::fmin(low, x);
    high = std::fmax(high, x);
  }
  const float most = std::fmax(-low, high);
  if (options.format == QuantFormat::int8) return {most / 127, 128, 1, 255};
  if (!options.zero_points) return {stored_scale(options.format, most / 7), 8, 1, 15};
  Codes codes{stored_scale(options.format, (high - low) / 15), 0, 0, 15};
  if (codes.scale > 0) {
    codes.zero = static_cast<int>(std::fmin(15.0f, std::nearbyint(-low / codes.scale)));
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
    codes.scale = stored_scale(options.format,
                               widest.scale * (1.0f - 0.4f * static_cast<float>(step) / kSteps));
    consider(codes);
    if (!has_spare_code) continue;
    codes.least = 0;  // -8, for the sign that needs it
    consider(codes);
    codes.scale = -codes.scale;
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
  QuantizedMatrices out;
  out.format = options.format;
  out.count = weights.count;
  out.rows = weights.rows;
  out.cols = weights.cols;
  out.group = options.format == QuantFormat::int8 ? weights.cols : options.group;
  const bool int4 = options.format == QuantFormat::int4;
  const std::int64_t groups = out.groups(), row_bytes = int4 ? (out.cols + 1) / 2 : out.cols;
  const std::int64_t rows = out.count * out.rows;
  out.values.resize(static_cast<std::size_t>(rows * row_bytes));
  out.scales.resize(static_cast<std::size_t>(rows * groups));
  if (options.zero_points) out.zeros.resize(out.scales.size());

  std::vector<std::int64_t> first_bad(static_cast<std::size_t>(context.threads()), kNothing);
  std::vector<std::vector<float>> row_of_thread(static_cast<std::size_t>(context.threads()));
  for (auto& row : row_of_thread) row.resize(static_cast<std::size_t>(out.cols));
  pool_of(context).for_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    const std::span<float> w = row_of_thread[static_cast<std::size_t>(thread)];
    std::int64_t& bad = first_bad[static_cast<std::size_t>(thread)];
    for (std::int64_t r = begin; r < end; ++r) {
      widen_row(weights[r / out.rows], r % out.rows, w);
      std::uint8_t* values = out.values.data() + r * row_bytes;
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t from = g * out.group;
        const std::span<const float> part =
            w.subspan(static_cast<std::size_t>(from),
                      static_cast<std::size_t>(std::min(out.group, out.cols - from)));
        const Codes codes = options.search == ScaleSearch::mse ? best_codes(part, options)
                                                               : absmax_codes(part, options);
        const auto i = static_cast<std::size_t>(r * groups + g);
        out.scales[i] = codes.scale;
        if (options.zero_points) out.zeros[i] = static_cast<std::uint8_t>(codes.zero);
        for (std::size_t k = 0; k < part.size(); ++k) {
          const std::int64_t column = from + static_cast<std::int64_t>(k);
          if (!std::isfinite(part[k]) || !std::isfinite(codes.scale)) {
            bad = std::min(bad, r * out.cols + column);
            continue;
          }
          const auto code = static_cast<unsigned>(codes.of(part[k]));
          if (int4) {
            values[column / 2] |= static_cast<std::uint8_t>(code << (column % 2 * 4));
          } else {
            values[column] = static_cast<std::uint8_t>(code);
          }
        }
      }
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
