#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// 12 rows by 32 columns in 24 accumulators, 2 registers of weights, 1 broadcast: 27 of 32. One step
// of depth loads 2 vectors and 12 broadcasts (7 cycles at two loads a cycle) for 24 FMAs (12
// cycles): the FMA units are the limit, and weights may come from L2 (128 bytes in 12 cycles). bf16
// and f16 weights are widened on load and pay 2 more instructions a step.

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;

struct F32 {
  using Element = float;
  static constexpr int kDepth = 1;
  static inline void load(const float* b, __m512 out[2]) noexcept {
    out[0] = _mm512_loadu_ps(b);
    out[1] = _mm512_loadu_ps(b + 16);
  }
  static inline const float* at(const float* stripe, std::int64_t k) noexcept {
    return stripe + k * kStripeColumns;
  }
};

struct F16 {
  using Element = std::uint16_t;
  static constexpr int kDepth = 1;
  static inline void load(const std::uint16_t* b, __m512 out[2]) noexcept {
    out[0] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
    out[1] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 16)));
  }
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k) noexcept {
    return stripe + k * kStripeColumns;
  }
};

// Two depths lie side by side in each 32-bit lane: even in the low half, odd in the high.
struct Bf16Pair {
  using Element = std::uint16_t;
  static constexpr int kDepth = 2;
  static inline void load(const std::uint16_t* b, __m512 out[4]) noexcept {
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    for (int half = 0; half < 2; ++half) {
      const __m512i pair = _mm512_loadu_si512(b + half * 512);
      out[half] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
      out[2 + half] = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
    }
  }
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k) noexcept {
    return stripe + k / kDepthUnit * 1024 + k % kDepthUnit * 16;
  }
};

template <class Weights, int rows>
inline void block(const GemmArgs& g, const float* a, float* acc, Prefetcher& prefetcher) noexcept {
  const auto* stripe = static_cast<const typename Weights::Element*>(g.stripe);
  __m512 c[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    c[r][0] = g.accumulate ? _mm512_load_ps(acc + r * 32) : _mm512_setzero_ps();
    c[r][1] = g.accumulate ? _mm512_load_ps(acc + r * 32 + 16) : _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < g.depth; k += Weights::kDepth) {
    if (k % kDepthUnit == 0) prefetcher.step();
    __m512 b[2 * Weights::kDepth];
    Weights::load(Weights::at(stripe, k), b);
#pragma GCC unroll 2
    for (int d = 0; d < Weights::kDepth; ++d) {
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        const __m512 x = _mm512_set1_ps(a[r * g.panel_stride + k + d]);
        c[r][0] = _mm512_fmadd_ps(x, b[2 * d], c[r][0]);
        c[r][1] = _mm512_fmadd_ps(x, b[2 * d + 1], c[r][1]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    _mm512_store_ps(acc + r * 32, c[r][0]);
    _mm512_store_ps(acc + r * 32 + 16, c[r][1]);
  }
}

template <class Weights>
inline void all_rows(const GemmArgs& g) noexcept {
  using Block = void (*)(const GemmArgs&, const float*, float*, Prefetcher&) noexcept;
  static constexpr Block kTail[kRows] = {
      block<Weights, 1>, block<Weights, 2>,  block<Weights, 3>,  block<Weights, 4>,
      block<Weights, 5>, block<Weights, 6>,  block<Weights, 7>,  block<Weights, 8>,
      block<Weights, 9>, block<Weights, 10>, block<Weights, 11>, block<Weights, 12>};
  const float* a = static_cast<const float*>(g.panel);
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * (g.depth / kDepthUnit));
  for (std::int64_t r = 0; r < g.rows; r += kRows) {
    const std::int64_t left = g.rows - r;
    const std::int64_t rows = left < kRows ? left : kRows;
    kTail[rows - 1](g, a + r * g.panel_stride, g.acc + r * kStripeColumns, prefetcher);
  }
}

}  // namespace

void gemm_f32_f32_avx512(const GemmArgs& g) noexcept { all_rows<F32>(g); }
void gemm_bf16_f32_avx512(const GemmArgs& g) noexcept { all_rows<Bf16Pair>(g); }
void gemm_f16_f32_avx512(const GemmArgs& g) noexcept { all_rows<F16>(g); }

}  // namespace switchyard::gemm
