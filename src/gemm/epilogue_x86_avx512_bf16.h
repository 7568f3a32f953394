#pragma once

#include "gemm/epilogue_x86_avx512.h"

#include "gemm/epilogue_formulas.h"

// The AVX-512 epilogues where bf16 is rounded in hardware.
namespace switchyard::gemm {
namespace {

inline __m256i bf16_of(Vec x) noexcept {
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x.v));
}
inline __m512i bf16_of(Vec x, Vec y) noexcept {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y.v, x.v));
}

}  // namespace
}  // namespace switchyard::gemm
