#include <immintrin.h>

#include "combine/combine_kernel.h"
#include "combine/combine_token.h"

namespace switchyard {
namespace {

constexpr std::int64_t kLanes = 16;
constexpr int kUnrolled = 4;

struct F32 {
  static constexpr std::int64_t kSize = 4;
  static __m512 load(const std::byte* from, __mmask16 lanes) noexcept {
    return _mm512_maskz_loadu_ps(lanes, from);
  }
  static void store(std::byte* to, __mmask16 lanes, __m512 x) noexcept {
    _mm512_mask_storeu_ps(to, lanes, x);
  }
  static void stream(std::byte* to, __m512 x) noexcept {
    _mm512_stream_ps(reinterpret_cast<float*>(to), x);
  }
};

template <class Convert>
struct Half {
  static constexpr std::int64_t kSize = 2;
  static __m512 load(const std::byte* from, __mmask16 lanes) noexcept {
    return Convert::widen(_mm256_maskz_loadu_epi16(lanes, from));
  }
  static void store(std::byte* to, __mmask16 lanes, __m512 x) noexcept {
    _mm256_mask_storeu_epi16(to, lanes, Convert::round(x));
  }
  static void stream(std::byte* to, __m512 x) noexcept {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), Convert::round(x));
  }
};

struct Bf16 {
  static __m512 widen(__m256i x) noexcept {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  // In integers: vcvtneps2bf16 would flush subnormals.
  static __m256i round(__m512 x) noexcept {
    const __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(
        _mm512_mask_or_epi32(_mm512_srli_epi32(up, 16), nan, high, _mm512_set1_epi32(0x40)));
  }
};

struct F16 {
  static __m512 widen(__m256i x) noexcept { return _mm512_cvtph_ps(x); }
  static __m256i round(__m512 x) noexcept {
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

template <class T, int kVectors, bool kStream>
void sum_columns(const CombineRows& job, const Token& token, std::int64_t col,
                 __mmask16 lanes) noexcept {
  const std::byte* rows = job.rows + col * T::kSize;
  std::byte* out = token.out + col * T::kSize;
  __m512 sum[kVectors];
  std::int64_t a = token.first;
  if (job.accumulate) {
    for (int v = 0; v < kVectors; ++v) sum[v] = T::load(out + v * kLanes * T::kSize, lanes);
  } else {
    const std::byte* row = rows + job.row_of_assignment[a] * job.row_stride;
    const __m512 weight = _mm512_set1_ps(job.weight_of_assignment[a]);
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = _mm512_mul_ps(weight, T::load(row + v * kLanes * T::kSize, lanes));
    }
    ++a;
  }
  for (; a < token.last; ++a) {
    if (job.row_of_assignment[a] < 0) continue;
    const std::byte* row = rows + job.row_of_assignment[a] * job.row_stride;
    const __m512 weight = _mm512_set1_ps(job.weight_of_assignment[a]);
    for (int v = 0; v < kVectors; ++v) {
      const __m512 product = _mm512_mul_ps(weight, T::load(row + v * kLanes * T::kSize, lanes));
      sum[v] = _mm512_add_ps(sum[v], product);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    if constexpr (kStream) {
      T::stream(out + v * kLanes * T::kSize, sum[v]);
    } else {
      T::store(out + v * kLanes * T::kSize, lanes, sum[v]);
    }
  }
}

template <class T, bool kStream>
void combine_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  constexpr __mmask16 kAll = 0xffff;
  for (std::int64_t t = begin; t < end; ++t) {
    Token token = token_of(job, t, end, T::kSize);
    while (token.first < token.last && job.row_of_assignment[token.first] < 0) ++token.first;
    if (token.first == token.last) {
      if (!job.accumulate) {
        __builtin_memset(token.out, 0, static_cast<std::size_t>(job.cols * T::kSize));
      }
      continue;
    }
    std::int64_t col = 0;
    for (; col + kUnrolled * kLanes <= job.cols; col += kUnrolled * kLanes) {
      fetch_next(job, token, col * T::kSize, kUnrolled * kLanes * T::kSize);
      sum_columns<T, kUnrolled, kStream>(job, token, col, kAll);
    }
    for (; col + kLanes <= job.cols; col += kLanes) sum_columns<T, 1, false>(job, token, col, kAll);
    if (col < job.cols) {
      const auto tail = static_cast<__mmask16>(kAll >> (kLanes - (job.cols - col)));
      sum_columns<T, 1, false>(job, token, col, tail);
    }
  }
}

// Streaming stores need aligned rows; a hint may be ignored.
template <class T>
void combine_either(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  const bool is_aligned = ((reinterpret_cast<std::intptr_t>(job.out) | job.out_stride) & 63) == 0;
  if (!job.bypass_cache || !is_aligned) return combine_avx512<T, false>(job, begin, end);
  combine_avx512<T, true>(job, begin, end);
  _mm_sfence();
}

}  // namespace

void combine_f32_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<F32>(job, begin, end);
}

void combine_bf16_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<Half<Bf16>>(job, begin, end);
}

void combine_f16_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<Half<F16>>(job, begin, end);
}

}  // namespace switchyard
