#include <immintrin.h>

#include "combine/combine_kernel.h"
#include "combine/combine_token.h"

namespace switchyard {
namespace {

constexpr std::int64_t kLanes = 8;
constexpr int kUnrolled = 4;

struct F32 {
  static constexpr std::int64_t kSize = 4;
  static __m256 load(const std::byte* from) noexcept {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
  }
  static void store(std::byte* to, __m256 x) noexcept {
    _mm256_storeu_ps(reinterpret_cast<float*>(to), x);
  }
  static void stream(std::byte* to, __m256 x) noexcept {
    _mm256_stream_ps(reinterpret_cast<float*>(to), x);
  }
};

template <class Convert>
struct Half {
  static constexpr std::int64_t kSize = 2;
  static __m256 load(const std::byte* from) noexcept {
    return Convert::widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void store(std::byte* to, __m256 x) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), Convert::round(x));
  }
  static void stream(std::byte* to, __m256 x) noexcept {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), Convert::round(x));
  }
};

struct Bf16 {
  static __m256 widen(__m128i x) noexcept {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static __m128i round(__m256 x) noexcept {
    const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i rounded = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16),
                                               _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
  }
};

struct F16 {
  static __m256 widen(__m128i x) noexcept { return _mm256_cvtph_ps(x); }
  static __m128i round(__m256 x) noexcept {
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

/// Fewer than kLanes columns, the rest of a row: they pass through a vector on the stack.
template <class T>
struct Part {
  std::size_t bytes;
  __m256 load(const std::byte* from) const noexcept {
    alignas(32) std::byte vector[kLanes * T::kSize] = {};
    __builtin_memcpy(vector, from, bytes);
    return T::load(vector);
  }
  void store(std::byte* to, __m256 x) const noexcept {
    alignas(32) std::byte vector[kLanes * T::kSize];
    T::store(vector, x);
    __builtin_memcpy(to, vector, bytes);
  }
};

template <class T>
struct Whole {
  __m256 load(const std::byte* from) const noexcept { return T::load(from); }
  void store(std::byte* to, __m256 x) const noexcept { T::store(to, x); }
};

template <class T>
struct Streamed {
  __m256 load(const std::byte* from) const noexcept { return T::load(from); }
  void store(std::byte* to, __m256 x) const noexcept { T::stream(to, x); }
};

template <class T, int kVectors, class Access>
void sum_columns(const CombineRows& job, const Token& token, std::int64_t col,
                 const Access& access) noexcept {
  const std::byte* rows = job.rows + col * T::kSize;
  std::byte* out = token.out + col * T::kSize;
  __m256 sum[kVectors];
  std::int64_t a = token.first;
  if (job.accumulate) {
    for (int v = 0; v < kVectors; ++v) sum[v] = access.load(out + v * kLanes * T::kSize);
  } else {
    const std::byte* row = rows + job.row_of_assignment[a] * job.row_stride;
    const __m256 weight = _mm256_set1_ps(job.weight_of_assignment[a]);
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = _mm256_mul_ps(weight, access.load(row + v * kLanes * T::kSize));
    }
    ++a;
  }
  for (; a < token.last; ++a) {
    if (job.row_of_assignment[a] < 0) continue;
    const std::byte* row = rows + job.row_of_assignment[a] * job.row_stride;
    const __m256 weight = _mm256_set1_ps(job.weight_of_assignment[a]);
    for (int v = 0; v < kVectors; ++v) {
      const __m256 product = _mm256_mul_ps(weight, access.load(row + v * kLanes * T::kSize));
      sum[v] = _mm256_add_ps(sum[v], product);
    }
  }
  for (int v = 0; v < kVectors; ++v) access.store(out + v * kLanes * T::kSize, sum[v]);
}

template <class T, class Access>
void combine_avx2(const CombineRows& job, std::int64_t begin, std::int64_t end,
                  const Access& access) noexcept {
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
      sum_columns<T, kUnrolled>(job, token, col, access);
    }
    for (; col + kLanes <= job.cols; col += kLanes) sum_columns<T, 1>(job, token, col, access);
    if (col < job.cols) {
      const Part<T> part = {static_cast<std::size_t>((job.cols - col) * T::kSize)};
      sum_columns<T, 1>(job, token, col, part);
    }
  }
}

// Streaming stores need aligned rows; a hint may be ignored.
template <class T>
void combine_either(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  const bool is_aligned = ((reinterpret_cast<std::intptr_t>(job.out) | job.out_stride) & 31) == 0;
  if (!job.bypass_cache || !is_aligned) return combine_avx2<T>(job, begin, end, Whole<T>{});
  combine_avx2<T>(job, begin, end, Streamed<T>{});
  _mm_sfence();
}

}  // namespace

void combine_f32_avx2(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<F32>(job, begin, end);
}

void combine_bf16_avx2(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<Half<Bf16>>(job, begin, end);
}

void combine_f16_avx2(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<Half<F16>>(job, begin, end);
}

}  // namespace switchyard
