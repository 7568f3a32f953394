#include <immintrin.h>

#include "gemm/quant_kernel.h"

// Two passes over a row, 32 elements a step: the largest magnitude, which brings the row to L1,
// then the codes, while the next row comes to L2. Elements of bf16 need no unpacking: their
// magnitudes compare as words, and even and odd ones become floats by a shift and by a mask.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kStep = 32;

// `even` and `odd`: of bf16 what they say, of the others the first and the second 16 of a step.
struct Floats {
  __m512 even, odd;
};

inline __mmask16 first16(std::int64_t count) noexcept {
  return count >= 16 ? 0xffff : static_cast<__mmask16>(count <= 0 ? 0 : (1u << count) - 1);
}
inline __m512i load_words(const std::uint16_t* x, std::int64_t count) noexcept {
  const __mmask32 first = count <= 0 ? 0 : (__mmask32{1} << (count & 31)) - 1;
  return count >= kStep ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi16(first, x);
}

// Magnitudes of finite floats, then of infinities and NaNs, are in the order of their bits.
struct InOrder {
  static inline __m512i most(__m512i most, Floats x) noexcept {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i even = _mm512_and_si512(_mm512_castps_si512(x.even), magnitude);
    const __m512i odd = _mm512_and_si512(_mm512_castps_si512(x.odd), magnitude);
    return _mm512_max_epi32(most, _mm512_max_epi32(even, odd));
  }
  static inline int reduce(__m512i most) noexcept { return _mm512_reduce_max_epi32(most); }
  static inline __m256i bytes(__m512i even, __m512i odd) noexcept {
    return _mm256_set_m128i(_mm512_cvtepi32_epi8(odd), _mm512_cvtepi32_epi8(even));
  }
};

struct F32 : InOrder {
  using Element = float;
  static inline Floats load(const float* x, std::int64_t count) noexcept {
    if (count >= kStep) return {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
    return {_mm512_maskz_loadu_ps(first16(count), x),
            _mm512_maskz_loadu_ps(first16(count - 16), x + 16)};
  }
  static inline __m512i most(__m512i most, const float* x, std::int64_t count) noexcept {
    return InOrder::most(most, load(x, count));
  }
};

struct F16 : InOrder {
  using Element = std::uint16_t;
  static inline Floats load(const std::uint16_t* x, std::int64_t count) noexcept {
    const __m512i bits = load_words(x, count);
    return {_mm512_cvtph_ps(_mm512_castsi512_si256(bits)),
            _mm512_cvtph_ps(_mm512_extracti64x4_epi64(bits, 1))};
  }
  static inline __m512i most(__m512i most, const std::uint16_t* x, std::int64_t count) noexcept {
    return InOrder::most(most, load(x, count));
  }
};

struct Bf16 {
  using Element = std::uint16_t;
  static inline Floats load(const std::uint16_t* x, std::int64_t count) noexcept {
    const __m512i bits = load_words(x, count);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-65536)))};
  }
  static inline __m512i most(__m512i most, const std::uint16_t* x, std::int64_t count) noexcept {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    return _mm512_max_epu16(most, _mm512_and_si512(load_words(x, count), magnitude));
  }
  static inline int reduce(__m512i most) noexcept {
    const __m512i odd = _mm512_and_si512(most, _mm512_set1_epi32(-65536));
    return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_slli_epi32(most, 16), odd));
  }
  static inline __m256i bytes(__m512i even, __m512i odd) noexcept {
    const __m512i high = _mm512_slli_epi32(odd, 16);
    return _mm512_cvtepi16_epi8(_mm512_mask_blend_epi16(0xaaaaaaaa, even, high));
  }
};

template <class From>
inline float quantize_row(const RowArgs& q) noexcept {
  const auto* x = static_cast<const typename From::Element*>(q.x);
  const auto* next = static_cast<const typename From::Element*>(q.next);
  constexpr std::int64_t kPair = 128 / sizeof *x;  // elements of two lines, which come together
  const std::int64_t whole = q.cols / kStep * kStep;
  __m512i most_bits = _mm512_setzero_si512();
  for (std::int64_t k = 0; k < whole; k += kStep) most_bits = From::most(most_bits, x + k, kStep);
  if (whole < q.cols) most_bits = From::most(most_bits, x + whole, q.cols - whole);
  const int most_word = From::reduce(most_bits);
  float most;
  __builtin_memcpy(&most, &most_word, sizeof most);
  const bool finite = most_word < 0x7f800000;
  const bool any = finite && most > 1e-36f;
  const __m512 inverse = _mm512_set1_ps(any ? 127.0f / most : 0.0f);
  const std::int64_t cols = any ? q.cols : 0;
  for (std::int64_t g = 0; g * q.group < q.depth; ++g) {
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t k = g * q.group; k < (g + 1) * q.group; k += kStep) {
      if (next != nullptr && k % kPair == 0) __builtin_prefetch(next + k, 0, 2);
      const Floats v = From::load(x + k, cols - k);
      const __m512i even = _mm512_cvtps_epi32(_mm512_mul_ps(v.even, inverse));
      const __m512i odd = _mm512_cvtps_epi32(_mm512_mul_ps(v.odd, inverse));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(q.out + k), From::bytes(even, odd));
      sum = _mm512_sub_epi32(sum, _mm512_add_epi32(even, odd));
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
