#include <immintrin.h>

#include "gemm/quant_kernel.h"

// Two passes over a row that the first brings to L1 or L2: the largest magnitude, then the codes.

namespace switchyard::gemm {
namespace {

struct F32 {
  using Element = float;
  static inline __m512 load(const float* x, __mmask16 mask) noexcept {
    return _mm512_maskz_loadu_ps(mask, x);
  }
};

struct Bf16 {
  using Element = std::uint16_t;
  static inline __m512 load(const std::uint16_t* x, __mmask16 mask) noexcept {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }
};

struct F16 {
  using Element = std::uint16_t;
  static inline __m512 load(const std::uint16_t* x, __mmask16 mask) noexcept {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, x));
  }
};

inline __mmask16 first(std::int64_t count) noexcept {
  return count >= 16 ? 0xffff : static_cast<__mmask16>(count <= 0 ? 0 : (1u << count) - 1);
}

template <class From>
inline float quantize_row(const RowArgs& q) noexcept {
  const auto* x = static_cast<const typename From::Element*>(q.x);
  // Magnitudes of finite floats, then of infinities and NaNs, in the order of their bits.
  __m512i most_bits = _mm512_setzero_si512();
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (std::int64_t k = 0; k < q.cols; k += 16) {
    const __m512i bits = _mm512_castps_si512(From::load(x + k, first(q.cols - k)));
    most_bits = _mm512_max_epi32(most_bits, _mm512_and_si512(bits, magnitude));
  }
  const int most_word = _mm512_reduce_max_epi32(most_bits);
  float most;
  __builtin_memcpy(&most, &most_word, sizeof most);
  const bool finite = most_word < 0x7f800000;
  const __m512 inverse = _mm512_set1_ps(finite && most > 1e-36f ? 127.0f / most : 0.0f);
  const __mmask16 any = finite && most > 1e-36f ? 0xffff : 0;
  for (std::int64_t g = 0; g * q.group < q.depth; ++g) {
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t k = g * q.group; k < (g + 1) * q.group; k += 16) {
      const __m512 scaled = _mm512_mul_ps(From::load(x + k, any & first(q.cols - k)), inverse);
      const __m512i code = _mm512_cvtps_epi32(scaled);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(q.out + k), _mm512_cvtepi32_epi8(code));
      sum = _mm512_sub_epi32(sum, code);
    }
    q.sums[g] = _mm512_reduce_add_epi32(sum);
  }
  return finite ? most / 127.0f : __builtin_nanf("");
}

}  // namespace

float quant_row_f32_avx512(const RowArgs& q) noexcept { return quantize_row<F32>(q); }
float quant_row_bf16_avx512(const RowArgs& q) noexcept { return quantize_row<Bf16>(q); }
float quant_row_f16_avx512(const RowArgs& q) noexcept { return quantize_row<F16>(q); }

}  // namespace switchyard::gemm
