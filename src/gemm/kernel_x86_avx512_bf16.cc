#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"
#include "gemm/rounds.h"

// The AVX-512 kernel's shape, 12 rows by 32 columns, two depths per instruction: one step loads 2
// vectors of weight pairs and broadcasts 12 pairs of activations for 24 vdpbf16ps. On Intel those
// take 48 cycles: 0.97 of their own peak, half the speed of widening to f32, so that find_kernel
// passes this kernel by there (CpuFeatures::fast_dot_bf16). Up to 12 rows weights go straight from
// memory to L1 in rounds (rounds.h): 1 to 4 rows 1.2 to 1.35 times as fast as with the next stripe
// fetched into L2.

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;
constexpr int kUnroll = 4;                        // pairs of depths
constexpr int kCalls = kDepthUnit / 2 / kUnroll;  // of a prefetcher in a step

template <int rows, class Ahead>
inline void block(const GemmArgs& g, Order order, std::int64_t row, Ahead& ahead) noexcept {
  const auto* panel = static_cast<const std::uint16_t*>(g.panel) + row * g.panel_stride;
  float* acc = g.acc + row * kStripeColumns;
  __m512 c[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    c[r][0] = g.accumulate ? _mm512_load_ps(acc + r * 32) : _mm512_setzero_ps();
    c[r][1] = g.accumulate ? _mm512_load_ps(acc + r * 32 + 16) : _mm512_setzero_ps();
  }
  for (std::int64_t left = g.depth / kDepthUnit; left > 0; --left, order.advance()) {
    const auto* b =
        static_cast<const std::uint16_t*>(g.stripe) + order.position() * (kStepBytes / 2);
    const std::uint16_t* a = panel + order.position() * kDepthUnit;
    for (int pair = 0; pair < kDepthUnit / 2; ++pair) {
      if (pair % kUnroll == 0) ahead.step();
      const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + pair * 32);
      const __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + 512 + pair * 32);
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        int x;
        __builtin_memcpy(&x, a + r * g.panel_stride + 2 * pair, sizeof x);
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

template <class Ahead>
inline void all_rows(const GemmArgs& g, const Order& order, Ahead ahead) noexcept {
  using Block = void (*)(const GemmArgs&, Order, std::int64_t, Ahead&) noexcept;
  static constexpr Block kBlocks[kRows] = {block<1, Ahead>,  block<2, Ahead>,  block<3, Ahead>,
                                           block<4, Ahead>,  block<5, Ahead>,  block<6, Ahead>,
                                           block<7, Ahead>,  block<8, Ahead>,  block<9, Ahead>,
                                           block<10, Ahead>, block<11, Ahead>, block<12, Ahead>};
  for (std::int64_t row = 0; row < g.rows; row += kRows) {
    const std::int64_t left = g.rows - row;
    kBlocks[(left < kRows ? left : kRows) - 1](g, order, row, ahead);
  }
}

}  // namespace

void gemm_bf16_bf16_avx512_bf16(const GemmArgs& g) noexcept {
  const std::int64_t steps = g.depth / kDepthUnit;
  const Order order(steps);
  if (g.rows <= kRows) return all_rows(g, order, RoundAhead<kStepLines / kCalls>(g, order));
  const std::int64_t blocks = (g.rows + kRows - 1) / kRows;
  all_rows(g, order, Prefetcher(g, blocks * steps * kCalls));
}

}  // namespace switchyard::gemm
