#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// The AVX-512 kernel's shape, 12 rows by 32 columns, two depths per instruction: one step loads 2
// vectors of weight pairs and broadcasts 12 pairs of activations for 24 vdpbf16ps. On Intel those
// take 48 cycles: 0.97 of their own peak, half the speed of widening to f32, so that find_kernel
// passes this kernel by there (CpuFeatures::fast_dot_bf16).

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;

template <int rows>
inline void block(const GemmArgs& g, const std::uint16_t* a, float* acc,
                  Prefetcher& prefetcher) noexcept {
  const auto* b = static_cast<const std::uint16_t*>(g.stripe);
  __m512 c[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    c[r][0] = g.accumulate ? _mm512_load_ps(acc + r * 32) : _mm512_setzero_ps();
    c[r][1] = g.accumulate ? _mm512_load_ps(acc + r * 32 + 16) : _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < g.depth; k += kDepthUnit, b += 1024) {
    prefetcher.step();
    for (int pair = 0; pair < kDepthUnit / 2; ++pair) {
      const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + pair * 32);
      const __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + 512 + pair * 32);
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        int x;
        __builtin_memcpy(&x, a + r * g.panel_stride + k + 2 * pair, sizeof x);
        const __m512bh xx = (__m512bh)_mm512_set1_epi32(x);
        c[r][0] = _mm512_dpbf16_ps(c[r][0], xx, b0);
        c[r][1] = _mm512_dpbf16_ps(c[r][1], xx, b1);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    _mm512_store_ps(acc + r * 32, c[r][0]);
    _mm512_store_ps(acc + r * 32 + 16, c[r][1]);
  }
}

}  // namespace

void gemm_bf16_bf16_avx512_bf16(const GemmArgs& g) noexcept {
  using Block = void (*)(const GemmArgs&, const std::uint16_t*, float*, Prefetcher&) noexcept;
  static constexpr Block kTail[kRows] = {block<1>, block<2>,  block<3>,  block<4>,
                                         block<5>, block<6>,  block<7>,  block<8>,
                                         block<9>, block<10>, block<11>, block<12>};
  const auto* a = static_cast<const std::uint16_t*>(g.panel);
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * (g.depth / kDepthUnit));
  for (std::int64_t r = 0; r < g.rows; r += kRows) {
    const std::int64_t left = g.rows - r;
    const std::int64_t rows = left < kRows ? left : kRows;
    kTail[rows - 1](g, a + r * g.panel_stride, g.acc + r * kStripeColumns, prefetcher);
  }
}

}  // namespace switchyard::gemm
