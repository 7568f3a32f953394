#include <bit>
#include <cmath>
#include <cstring>

#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"
#include "switchyard/dtype.h"

namespace switchyard::gemm {
namespace {

std::int32_t int8_code(const std::byte* stripe, std::int64_t k, std::int64_t j) noexcept {
  return static_cast<std::int32_t>(
      stripe[k / 64 * 2048 + j / 16 * 1024 + k % 64 / 4 * 64 + j % 16 * 4 + k % 4]);
}

std::int32_t int4_code(const std::byte* codes, std::int64_t k, std::int64_t j) noexcept {
  const auto pair = static_cast<unsigned>(codes[k / 8 * 128 + j / 16 * 64 + j % 16 * 4 + k % 4]);
  return static_cast<std::int32_t>(k % 8 < 4 ? pair & 15 : pair >> 4);
}

template <class T>
float quantize_row(const RowArgs& q) noexcept {
  const T* x = static_cast<const T*>(q.x);
  float most = 0;
  bool finite = true;
  for (std::int64_t k = 0; k < q.cols; ++k) {
    const float magnitude = std::fabs(to_float(x[k]));
    finite = finite && std::isfinite(magnitude);
    most = magnitude > most ? magnitude : most;
  }
  // Beyond the reciprocal's range a row is nothing but zeros of f32 anyway.
  const float inverse = finite && most > 1e-36f ? 127.0f / most : 0.0f;
  for (std::int64_t k = 0; k < q.depth; ++k) {
    const float code = k < q.cols && inverse != 0 ? std::nearbyint(to_float(x[k]) * inverse) : 0;
    q.out[k] = static_cast<std::int8_t>(code);
  }
  for (std::int64_t g = 0; g < q.depth / q.group; ++g) {
    std::int32_t sum = 0;
    for (std::int64_t k = g * q.group; k < (g + 1) * q.group; ++k) sum -= q.out[k];
    q.sums[g] = sum;
  }
  return finite ? most / 127.0f : NAN;
}

}  // namespace

void quant_int8_portable(const QuantArgs& q) noexcept {
  float scales[kStripeColumns];
  std::memcpy(scales, q.stripe + q.depth * kStripeColumns, sizeof scales);
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const auto* a = q.panel + r * q.panel_stride;
    float* acc = q.acc + r * kStripeColumns;
    for (std::int64_t j = 0; j < kStripeColumns; ++j) {
      std::int32_t sum = q.k_begin > 0 ? std::bit_cast<std::int32_t>(acc[j]) : 0;
      for (std::int64_t k = q.k_begin; k < q.k_end; ++k) sum += a[k] * int8_code(q.stripe, k, j);
      if (q.k_end < q.depth) {
        acc[j] = std::bit_cast<float>(sum);
        continue;
      }
      sum += kZeroOfInt8 * q.row_sums[r * q.sums_stride];
      acc[j] = static_cast<float>(sum) * (scales[j] * q.row_scale[r]);
    }
  }
}

void quant_int4_portable(const QuantArgs& q) noexcept {
  const Int4Stripe parts(q);
  const std::byte* codes = q.stripe + parts.codes;
  const std::byte* scales = q.stripe + parts.scales;
  const auto* zeros = reinterpret_cast<const std::uint8_t*>(q.stripe + parts.zeros);
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const auto* a = q.panel + r * q.panel_stride;
    float* acc = q.acc + r * kStripeColumns;
    for (std::int64_t j = 0; j < kStripeColumns; ++j) {
      float total = q.k_begin > 0 ? acc[j] : 0;
      for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
        const std::int64_t g = k / q.group;
        const std::int32_t zero =
            q.zero_points ? zeros[g * kStripeColumns + j] : std::uint8_t{kZeroOfInt4};
        std::int32_t sum = zero * q.row_sums[r * q.sums_stride + g];
        for (std::int64_t i = k; i < k + q.group; ++i) sum += a[i] * int4_code(codes, i, j);
        f16 scale;
        std::memcpy(&scale, scales + (g * kStripeColumns + j) * 2, sizeof scale);
        total = std::fma(static_cast<float>(sum), to_float(scale), total);
      }
      acc[j] = q.k_end < q.depth ? total : total * q.row_scale[r];
    }
  }
}

float quant_row_f32_portable(const RowArgs& q) noexcept { return quantize_row<float>(q); }
float quant_row_bf16_portable(const RowArgs& q) noexcept { return quantize_row<bf16>(q); }
float quant_row_f16_portable(const RowArgs& q) noexcept { return quantize_row<f16>(q); }

}  // namespace switchyard::gemm
