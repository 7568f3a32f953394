#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// 6 rows by 16 columns in 12 accumulators, 2 registers of weights, 1 broadcast: 15 of 16. The
// stripe's 32 columns are done as two halves of 8 + 8. One step loads 2 vectors and 6 broadcasts (4
// cycles) for 12 FMAs (6 cycles).

namespace switchyard::gemm {
namespace {

constexpr int kRows = 6;

struct F32 {
  using Element = float;
  static constexpr int kDepth = 1;
  static inline void load(const float* b, __m256 out[2]) noexcept {
    out[0] = _mm256_loadu_ps(b);
    out[1] = _mm256_loadu_ps(b + 16);
  }
  static inline const float* at(const float* stripe, std::int64_t k, int half) noexcept {
    return stripe + k * kStripeColumns + half * 8;
  }
};

struct F16 {
  using Element = std::uint16_t;
  static constexpr int kDepth = 1;
  static inline void load(const std::uint16_t* b, __m256 out[2]) noexcept {
    out[0] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
    out[1] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + 16)));
  }
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k,
                                        int half) noexcept {
    return stripe + k * kStripeColumns + half * 8;
  }
};

// Two depths lie side by side in each 32-bit lane: even in the low half, odd in the high.
struct Bf16Pair {
  using Element = std::uint16_t;
  static constexpr int kDepth = 2;
  static inline void load(const std::uint16_t* b, __m256 out[4]) noexcept {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    for (int tile = 0; tile < 2; ++tile) {
      const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + tile * 512));
      out[tile] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
      out[2 + tile] = _mm256_castsi256_ps(_mm256_and_si256(pair, high));
    }
  }
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k,
                                        int half) noexcept {
    return stripe + k / kDepthUnit * 1024 + k % kDepthUnit * 16 + half * 16;
  }
};

template <class Weights, int rows>
inline void block(const GemmArgs& g, const float* a, float* acc, int half,
                  Prefetcher& prefetcher) noexcept {
  const auto* stripe = static_cast<const typename Weights::Element*>(g.stripe);
  __m256 c[rows][2];
  acc += half * 8;
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
    c[r][0] = g.accumulate ? _mm256_load_ps(acc + r * 32) : _mm256_setzero_ps();
    c[r][1] = g.accumulate ? _mm256_load_ps(acc + r * 32 + 16) : _mm256_setzero_ps();
  }
  for (std::int64_t k = 0; k < g.depth; k += Weights::kDepth) {
    if (k % kDepthUnit == 0) prefetcher.step();
    __m256 b[2 * Weights::kDepth];
    Weights::load(Weights::at(stripe, k, half), b);
#pragma GCC unroll 2
    for (int d = 0; d < Weights::kDepth; ++d) {
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) {
        const __m256 x = _mm256_broadcast_ss(a + r * g.panel_stride + k + d);
        c[r][0] = _mm256_fmadd_ps(x, b[2 * d], c[r][0]);
        c[r][1] = _mm256_fmadd_ps(x, b[2 * d + 1], c[r][1]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
    _mm256_store_ps(acc + r * 32, c[r][0]);
    _mm256_store_ps(acc + r * 32 + 16, c[r][1]);
  }
}

template <class Weights>
inline void all_rows(const GemmArgs& g) noexcept {
  using Block = void (*)(const GemmArgs&, const float*, float*, int, Prefetcher&) noexcept;
  static constexpr Block kTail[kRows] = {block<Weights, 1>, block<Weights, 2>, block<Weights, 3>,
                                         block<Weights, 4>, block<Weights, 5>, block<Weights, 6>};
  const float* a = static_cast<const float*>(g.panel);
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * (g.depth / kDepthUnit) * 2);
  for (int half = 0; half < 2; ++half) {
    for (std::int64_t r = 0; r < g.rows; r += kRows) {
      const std::int64_t left = g.rows - r;
      const std::int64_t rows = left < kRows ? left : kRows;
      kTail[rows - 1](g, a + r * g.panel_stride, g.acc + r * kStripeColumns, half, prefetcher);
    }
  }
}

}  // namespace

void gemm_f32_f32_avx2(const GemmArgs& g) noexcept { all_rows<F32>(g); }
void gemm_bf16_f32_avx2(const GemmArgs& g) noexcept { all_rows<Bf16Pair>(g); }
void gemm_f16_f32_avx2(const GemmArgs& g) noexcept { all_rows<F16>(g); }

}  // namespace switchyard::gemm
