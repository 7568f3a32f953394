#include <immintrin.h>

#include "gemm/epilogue_kernel.h"

namespace switchyard::gemm {
namespace {

struct Vec {
  static constexpr std::int64_t kLanes = 8;
  __m256 v;

  static inline Vec load(const float* p) noexcept { return {_mm256_loadu_ps(p)}; }
  static inline Vec set(float x) noexcept { return {_mm256_set1_ps(x)}; }
};

inline Vec operator+(Vec a, Vec b) noexcept { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) noexcept { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) noexcept { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) noexcept { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec reciprocal(Vec x) noexcept { return {_mm256_div_ps(_mm256_set1_ps(1.0f), x.v)}; }
inline Vec min(Vec a, Vec b) noexcept { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) noexcept { return {_mm256_max_ps(a.v, b.v)}; }

inline Vec above_floor(Vec t) noexcept { return {_mm256_sub_ps(t.v, _mm256_floor_ps(t.v))}; }

inline Vec scale(Vec x, Vec t) noexcept {
  const __m256i floor = _mm256_cvttps_epi32(_mm256_floor_ps(t.v));
  const __m256i exponent = _mm256_add_epi32(floor, _mm256_set1_epi32(127));
  return {_mm256_mul_ps(x.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))};
}

inline void store_f32(std::byte* out, Vec x) noexcept {
  _mm256_storeu_ps(reinterpret_cast<float*>(out), x.v);
}

inline __m128i bf16_of(Vec x) noexcept {
  const __m256i bits = _mm256_castps_si256(x.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08));
}

inline void store_bf16(std::byte* out, Vec x) noexcept {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bf16_of(x));
}
inline void store_bf16(std::byte* out, Vec x, Vec y) noexcept {
  store_bf16(out, x);
  store_bf16(out + 16, y);
}

inline __m128i f16_of(Vec x) noexcept {
  return _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

inline void store_f16(std::byte* out, Vec x) noexcept {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), f16_of(x));
}

inline void stream_f32(std::byte* out, Vec x) noexcept {
  _mm256_stream_ps(reinterpret_cast<float*>(out), x.v);
}
inline void stream_bf16(std::byte* out, Vec x, Vec y) noexcept {
  _mm_stream_si128(reinterpret_cast<__m128i*>(out), bf16_of(x));
  _mm_stream_si128(reinterpret_cast<__m128i*>(out + 16), bf16_of(y));
}
inline void stream_f16(std::byte* out, Vec x) noexcept {
  _mm_stream_si128(reinterpret_cast<__m128i*>(out), f16_of(x));
}
inline void end_streams() noexcept { _mm_sfence(); }

}  // namespace
}  // namespace switchyard::gemm

#include "gemm/epilogue_formulas.h"

namespace switchyard::gemm {

EpilogueFn find_epilogue_avx2(EpilogueKind kind, Activation act, DType element) noexcept {
  return find(kind, act, element);
}

}  // namespace switchyard::gemm
