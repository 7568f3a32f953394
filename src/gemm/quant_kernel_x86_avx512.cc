#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// Two passes over a row: the largest magnitude, which brings the row to L1, then the codes, while
// rows that follow come to L2. 64 codes a step: packed by lanes of 128 bits (with saturation, but
// they are within 127), put in order by one permutation, and summed as differences from 0, once
// shifted to be unsigned. Elements of bf16 need no unpacking: their magnitudes compare as words,
// and even and odd ones become floats by a shift and by a mask. A row of 2048 bf16 in L2 takes 250
// ns; 32 codes a step, packed by vpmovdb and summed as integers, took 350.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kStep = 64;

inline __m512i steps_of(__m512 x, __m512 inverse) noexcept {
  return _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
}

// The first `count` of 16 or of 32, or all of them.
inline __mmask16 first16(std::int64_t count) noexcept {
  return count >= 16 ? 0xffff : static_cast<__mmask16>(count <= 0 ? 0 : (1u << count) - 1);
}
inline __mmask32 first32(std::int64_t count) noexcept {
  return count >= 32 ? 0xffffffff : count <= 0 ? 0 : (__mmask32{1} << count) - 1;
}

struct LoadF32 {
  using Element = float;
  template <bool kWhole>
  static inline __m512 of(const float* x, std::int64_t count) noexcept {
    return kWhole ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(first16(count), x);
  }
};

struct LoadF16 {
  using Element = std::uint16_t;
  template <bool kWhole>
  static inline __m512 of(const std::uint16_t* x, std::int64_t count) noexcept {
    return _mm512_cvtph_ps(kWhole ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))
                                  : _mm256_maskz_loadu_epi16(first16(count), x));
  }
};

// What a row's elements need: the largest magnitudes so far after a step, their largest as the bits
// of a float, and the codes of a step; of a step's elements all when kWhole, or the first `count`.
template <class Load>
struct InOrder {
  using Element = typename Load::Element;

  // Magnitudes of finite floats, then of infinities and NaNs, are in the order of their bits.
  template <bool kWhole>
  static inline __m512i most(__m512i most, const Element* x, std::int64_t count) noexcept {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
#pragma GCC unroll 4
    for (int i = 0; i < kStep; i += 16) {
      const __m512i bits = _mm512_castps_si512(Load::template of<kWhole>(x + i, count - i));
      most = _mm512_max_epi32(most, _mm512_and_si512(bits, magnitude));
    }
    return most;
  }
  static inline int reduce(__m512i most) noexcept { return _mm512_reduce_max_epi32(most); }

  template <bool kWhole>
  static inline __m512i codes(const Element* x, std::int64_t count, __m512 inverse) noexcept {
    const __m512i a = steps_of(Load::template of<kWhole>(x, count), inverse);
    const __m512i b = steps_of(Load::template of<kWhole>(x + 16, count - 16), inverse);
    const __m512i c = steps_of(Load::template of<kWhole>(x + 32, count - 32), inverse);
    const __m512i d = steps_of(Load::template of<kWhole>(x + 48, count - 48), inverse);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(
        order, _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
  }
};

struct Bf16 {
  using Element = std::uint16_t;

  template <bool kWhole>
  static inline __m512i load(const std::uint16_t* x, std::int64_t count) noexcept {
    return kWhole ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi16(first32(count), x);
  }
  template <bool kWhole>
  static inline __m512i most(__m512i most, const std::uint16_t* x, std::int64_t count) noexcept {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    most = _mm512_max_epu16(most, _mm512_and_si512(load<kWhole>(x, count), magnitude));
    return _mm512_max_epu16(most, _mm512_and_si512(load<kWhole>(x + 32, count - 32), magnitude));
  }
  static inline int reduce(__m512i most) noexcept {
    const __m512i odd = _mm512_and_si512(most, _mm512_set1_epi32(-65536));
    return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_slli_epi32(most, 16), odd));
  }
  // Of 32 elements, as words.
  static inline __m512i words(__m512i bits, __m512 inverse) noexcept {
    const __m512i even = _mm512_slli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(bits, _mm512_set1_epi32(-65536));
    const __m512i low = steps_of(_mm512_castsi512_ps(even), inverse);
    const __m512i high = steps_of(_mm512_castsi512_ps(odd), inverse);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
  }
  template <bool kWhole>
  static inline __m512i codes(const std::uint16_t* x, std::int64_t count, __m512 inverse) noexcept {
    const __m512i first = words(load<kWhole>(x, count), inverse);
    const __m512i second = words(load<kWhole>(x + 32, count - 32), inverse);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm512_permutexvar_epi64(order, _mm512_packs_epi16(first, second));
  }
};

template <class From>
inline float largest_magnitude(const RowArgs& q) noexcept {
  const auto* x = static_cast<const typename From::Element*>(q.x);
  __m512i most = _mm512_setzero_si512();
  std::int64_t k = 0;
  for (; k + kStep <= q.cols; k += kStep) most = From::template most<true>(most, x + k, kStep);
  if (k < q.cols) most = From::template most<false>(most, x + k, q.cols - k);
  const int word = From::reduce(most);
  float out;
  __builtin_memcpy(&out, &word, sizeof out);
  return out;
}

// Sums of eight codes each, plus 8 * 128.
inline __m512i sums_by_eight(__m512i codes) noexcept {
  const __m512i shifted = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
  return _mm512_sad_epu8(shifted, _mm512_setzero_si512());
}

inline std::int32_t negated_sum(std::int64_t shifted_sum, std::int64_t count) noexcept {
  return static_cast<std::int32_t>(count * 128 - shifted_sum);
}

template <class From>
inline float quantize_row(const RowArgs& q) noexcept {
  const auto* x = static_cast<const typename From::Element*>(q.x);
  const float most = largest_magnitude<From>(q);
  const bool finite = most <= 0x1.fffffep127f;  // false for NaN
  const bool any = finite && most > 1e-36f;
  const __m512 inverse = _mm512_set1_ps(any ? 127.0f / most : 0.0f);
  const std::int64_t cols = any ? q.cols : 0;
  const std::int64_t span = q.group < kStep ? kStep : q.group;
  std::int32_t* sums = q.sums;
  Prefetcher prefetcher(q.prefetch, q.depth / kStep);
  for (std::int64_t begin = 0; begin < q.depth; begin += span) {
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t k = begin; k < begin + span; k += kStep) {
      prefetcher.step();
      const __m512i codes = k + kStep <= cols
                                ? From::template codes<true>(x + k, kStep, inverse)
                                : From::template codes<false>(x + k, cols - k, inverse);
      if (q.stream) {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(q.out + k), codes);
      } else {
        _mm512_storeu_si512(q.out + k, codes);
      }
      sum = _mm512_add_epi64(sum, sums_by_eight(codes));
    }
    if (q.group < kStep) {
      *sums++ = negated_sum(_mm512_mask_reduce_add_epi64(0x0f, sum), q.group);
      *sums++ = negated_sum(_mm512_mask_reduce_add_epi64(0xf0, sum), q.group);
    } else {
      *sums++ = negated_sum(_mm512_reduce_add_epi64(sum), q.group);
    }
  }
  return finite ? most / 127.0f : __builtin_nanf("");
}

}  // namespace

float quant_row_f32_avx512(const RowArgs& q) noexcept { return quantize_row<InOrder<LoadF32>>(q); }
float quant_row_bf16_avx512(const RowArgs& q) noexcept { return quantize_row<Bf16>(q); }
float quant_row_f16_avx512(const RowArgs& q) noexcept { return quantize_row<InOrder<LoadF16>>(q); }

}  // namespace switchyard::gemm
