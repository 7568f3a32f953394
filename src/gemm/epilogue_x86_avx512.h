#pragma once

#include <immintrin.h>

#include "gemm/epilogue_kernel.h"

// The vector of the AVX-512 epilogues, but for how it rounds to bf16: bf16_of, which the file that
// includes this defines.

namespace switchyard::gemm {
namespace {

struct Vec {
  static constexpr std::int64_t kLanes = 16;
  __m512 v;

  static inline Vec load(const float* p) noexcept { return {_mm512_loadu_ps(p)}; }
  static inline Vec set(float x) noexcept { return {_mm512_set1_ps(x)}; }
};

inline Vec operator+(Vec a, Vec b) noexcept { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) noexcept { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) noexcept { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) noexcept { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) noexcept { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) noexcept { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec above_floor(Vec t) noexcept {
  return {_mm512_reduce_ps(t.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
inline Vec scale(Vec x, Vec t) noexcept { return {_mm512_scalef_ps(x.v, t.v)}; }

// Good to 14 bits, then one step of Newton's: 28. A division takes 16 cycles, this takes 2.
inline Vec reciprocal(Vec x) noexcept {
  const __m512 y = _mm512_rcp14_ps(x.v);
  const __m512 error = _mm512_fnmadd_ps(x.v, y, _mm512_set1_ps(1.0f));
  return {_mm512_fmadd_ps(y, error, y)};
}

inline __m256i bf16_of(Vec x) noexcept;
inline __m512i bf16_of(Vec x, Vec y) noexcept;
inline __m256i f16_of(Vec x) noexcept {
  return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

inline void store_f32(std::byte* out, Vec x) noexcept { _mm512_storeu_ps(out, x.v); }
inline void store_bf16(std::byte* out, Vec x) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bf16_of(x));
}
inline void store_bf16(std::byte* out, Vec x, Vec y) noexcept {
  _mm512_storeu_si512(out, bf16_of(x, y));
}
inline void store_f16(std::byte* out, Vec x) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), f16_of(x));
}

inline void stream_f32(std::byte* out, Vec x) noexcept {
  _mm512_stream_ps(reinterpret_cast<float*>(out), x.v);
}
inline void stream_bf16(std::byte* out, Vec x, Vec y) noexcept {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(out), bf16_of(x, y));
}
inline void stream_f16(std::byte* out, Vec x) noexcept {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(out), f16_of(x));
}
inline void end_streams() noexcept { _mm_sfence(); }

}  // namespace
}  // namespace switchyard::gemm
