#include "gemm/epilogue_x86_avx512.h"

#include "gemm/epilogue_formulas.h"

namespace switchyard::gemm {
namespace {

inline __m256i bf16_of(Vec x) noexcept {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i high = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16);
  return _mm512_cvtepi32_epi16(high);
}
inline __m512i bf16_of(Vec x, Vec y) noexcept {
  return _mm512_inserti64x4(_mm512_castsi256_si512(bf16_of(x)), bf16_of(y), 1);
}

}  // namespace

EpilogueFn find_epilogue_avx512(EpilogueKind kind, Activation act, DType element) noexcept {
  return find(kind, act, element);
}

}  // namespace switchyard::gemm
