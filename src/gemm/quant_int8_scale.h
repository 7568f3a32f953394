#pragma once

#include <immintrin.h>

#include "gemm/quant_kernel.h"

// Internal linkage throughout: each file of AVX-512 kernels gets a copy of its own.
namespace switchyard::gemm {
namespace {

// out = scales (sum - z sum of a), of column half h
inline void store_scaled(const QuantArgs& q, const std::byte* stripe, std::int64_t row, int h,
                         __m512i sum, float* out) noexcept {
  const auto* scales = reinterpret_cast<const float*>(stripe + q.depth * kStripeColumns);
  const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * q.row_sums[row * q.sums_stride]);
  const __m512 scale =
      _mm512_mul_ps(_mm512_loadu_ps(scales + h * 16), _mm512_set1_ps(q.row_scale[row]));
  _mm512_store_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, zero)), scale));
}

}  // namespace
}  // namespace switchyard::gemm
