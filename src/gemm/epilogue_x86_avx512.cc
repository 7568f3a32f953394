#include <immintrin.h>

#include "gemm/epilogue_kernel.h"

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
inline Vec operator/(Vec a, Vec b) noexcept { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) noexcept { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) noexcept { return {_mm512_max_ps(a.v, b.v)}; }

inline Vec pow2(Vec n) noexcept {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvttps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}

inline void store_f32(std::byte* out, Vec x) noexcept { _mm512_storeu_ps(out, x.v); }

inline void store_bf16(std::byte* out, Vec x) noexcept {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i high = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(high));
}

inline void store_f16(std::byte* out, Vec x) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

}  // namespace
}  // namespace switchyard::gemm

#include "gemm/epilogue_formulas.h"

namespace switchyard::gemm {

EpilogueFn find_epilogue_avx512(EpilogueKind kind, Activation act, DType element) noexcept {
  return find(kind, act, element);
}

}  // namespace switchyard::gemm
