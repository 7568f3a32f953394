#include <immintrin.h>

#include "bench/limits_kernel.h"

namespace switchyard {

float peak_bf16_avx512_bf16(std::int64_t steps) noexcept {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512bh x = _mm512_cvtne2ps_pbh(one, one), y = x;
  __m512 a = one, b = _mm512_add_ps(a, one), c = _mm512_add_ps(b, one), d = _mm512_add_ps(c, one),
         e = _mm512_add_ps(d, one), f = _mm512_add_ps(e, one), g = _mm512_add_ps(f, one),
         h = _mm512_add_ps(g, one), i = _mm512_add_ps(h, one), j = _mm512_add_ps(i, one),
         k = _mm512_add_ps(j, one), l = _mm512_add_ps(k, one);
  for (std::int64_t step = 0; step < steps; ++step) {
    a = _mm512_dpbf16_ps(a, x, y);
    b = _mm512_dpbf16_ps(b, x, y);
    c = _mm512_dpbf16_ps(c, x, y);
    d = _mm512_dpbf16_ps(d, x, y);
    e = _mm512_dpbf16_ps(e, x, y);
    f = _mm512_dpbf16_ps(f, x, y);
    g = _mm512_dpbf16_ps(g, x, y);
    h = _mm512_dpbf16_ps(h, x, y);
    i = _mm512_dpbf16_ps(i, x, y);
    j = _mm512_dpbf16_ps(j, x, y);
    k = _mm512_dpbf16_ps(k, x, y);
    l = _mm512_dpbf16_ps(l, x, y);
  }
  a = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)), _mm512_add_ps(e, f));
  g = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(g, h), _mm512_add_ps(i, j)), _mm512_add_ps(k, l));
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, _mm512_add_ps(a, g));
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

float peak_int8_avx512_bf16(std::int64_t steps) noexcept {
  const __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
  __m512i sum[12];
  for (auto& lanes : sum) lanes = _mm512_setzero_si512();
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sum[i] = _mm512_dpbusd_epi32(sum[i], x, y);
  }
  for (int i = 1; i < 12; ++i) sum[0] = _mm512_add_epi32(sum[0], sum[i]);
  return static_cast<float>(_mm512_reduce_add_epi32(sum[0]));
}

}  // namespace switchyard
