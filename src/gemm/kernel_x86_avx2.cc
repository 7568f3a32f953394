#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// Registers: 6 rows by 16 columns in 12 accumulators, 2 vectors of weights, 1 broadcast: 15 of 16.
// A stripe's 32 columns are done as two halves of 8 + 8: [0, 8) with [16, 24), then the others.
//
// Loads: one depth takes 2 vectors and 6 broadcasts, 4 cycles at two a cycle, for 12 FMAs, 6 cycles
// at two a cycle. As in the AVX-512 kernel rows are addressed from every third one and 8 depths are
// unrolled, so that little integer arithmetic competes with the FMAs for their ports.
//
// Caches: the accumulators stay in registers over the whole depth; for every 6 rows both halves
// read a stripe's lines (128 bytes a depth) from L2, 128 bytes in 6 cycles, and 24 bytes of rows.
// Rows are prefetched into L1 32 depths ahead, the next stripe into L2 a line every few depths.
//
// Widening bf16 and f16 takes 2 to 4 instructions a depth beside 12 FMAs: 0.73 and 0.77 of the
// peak. So the first 6 rows leave the weights behind as f32, kChunk depths at a time, for the rows
// that follow.

namespace switchyard::gemm {
namespace {

constexpr int kRows = 6;
constexpr int kUnroll = 8;
constexpr int kSteps = 2;               // of the prefetcher in kUnroll depths
constexpr std::int64_t kRowAhead = 32;  // depths: two lines of a row
constexpr std::int64_t kChunk = 512;    // 64 KiB of widened weights: L2, like the stripe itself

/// at(): columns 8 half and up of depth k, a multiple of kUnroll; load(): of the u-th depth after
/// it, those 8 columns and the 8 columns 16 further.
struct F32 {
  static constexpr bool kWide = true;
  static inline const float* at(const float* stripe, std::int64_t k, int half) noexcept {
    return stripe + k * kStripeColumns + half * 8;
  }
  static inline void load(const float* b, int u, __m256 out[2]) noexcept {
    out[0] = _mm256_loadu_ps(b + u * kStripeColumns);
    out[1] = _mm256_loadu_ps(b + u * kStripeColumns + 16);
  }
};

struct F16 {
  static constexpr bool kWide = false;
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k,
                                        int half) noexcept {
    return stripe + k * kStripeColumns + half * 8;
  }
  static inline void load(const std::uint16_t* b, int u, __m256 out[2]) noexcept {
    const auto* lanes = reinterpret_cast<const __m128i*>(b + u * kStripeColumns);
    out[0] = _mm256_cvtph_ps(_mm_loadu_si128(lanes));
    out[1] = _mm256_cvtph_ps(_mm_loadu_si128(lanes + 2));
  }
};

// Two depths lie side by side in each 32-bit lane: even in the low half, odd in the high.
struct Bf16 {
  static constexpr bool kWide = false;
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k,
                                        int half) noexcept {
    return stripe + k / kDepthUnit * 1024 + k % kDepthUnit * 16 + half * 16;
  }
  static inline void load(const std::uint16_t* b, int u, __m256 out[2]) noexcept {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    for (int tile = 0; tile < 2; ++tile) {
      const auto* lanes = reinterpret_cast<const __m256i*>(b + tile * 512 + u / 2 * 32);
      const __m256i pair = _mm256_loadu_si256(lanes);
      out[tile] = _mm256_castsi256_ps(u % 2 == 0 ? _mm256_slli_epi32(pair, 16)
                                                 : _mm256_and_si256(pair, high));
    }
  }
};

/// A part of a product's depth.
template <class Element>
struct Part {
  const float* panel;
  std::int64_t stride;
  const Element* stripe;
  std::int64_t depth;
  float* acc;
  bool accumulate;
};

// Rows [row, row + rows) of half a part; with `leave` the weights are left behind in `widened`.
template <class Weights, int rows, bool leave, class Element>
inline void block(const Part<Element>& part, std::int64_t row, int half, float* widened,
                  Prefetcher& shared_prefetcher) noexcept {
  Prefetcher prefetcher = shared_prefetcher;  // in registers, not through the reference
  std::int64_t stride = part.stride;
  float* acc = part.acc + row * kStripeColumns + half * 8;
  const float* third_row[(rows + 2) / 3];
#pragma GCC unroll 2
  for (int i = 0; i < (rows + 2) / 3; ++i) third_row[i] = part.panel + (row + 3 * i) * stride;
  __m256 c[rows][2];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
    c[r][0] = part.accumulate ? _mm256_load_ps(acc + r * 32) : _mm256_setzero_ps();
    c[r][1] = part.accumulate ? _mm256_load_ps(acc + r * 32 + 16) : _mm256_setzero_ps();
  }
  for (std::int64_t k = 0; k < part.depth; k += kUnroll) {
    const Element* b = Weights::at(part.stripe, k, half);
    if (k % 16 == 0) {
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) {
        __builtin_prefetch(&third_row[r / 3][r % 3 * stride + kRowAhead]);
      }
    }
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll; ++u) {
      if (u % (kUnroll / kSteps) == 0) prefetcher.step();
      __asm__("" : "+r"(stride));  // or GCC 12 keeps stride + u in memory for each u
      __m256 w[2];
      Weights::load(b, u, w);
      if constexpr (leave) {
        float* f32 = widened + (k + u) * kStripeColumns + half * 8;
        _mm256_store_ps(f32, w[0]);
        _mm256_store_ps(f32 + 16, w[1]);
      }
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) {
        const __m256 x = _mm256_broadcast_ss(&third_row[r / 3][r % 3 * stride + u]);
        c[r][0] = _mm256_fmadd_ps(x, w[0], c[r][0]);
        c[r][1] = _mm256_fmadd_ps(x, w[1], c[r][1]);
      }
    }
#pragma GCC unroll 2
    for (auto& pointer : third_row) {
      pointer += kUnroll;
      __asm__("" : "+r"(pointer));  // or GCC 12 keeps one counter and computes each row's address
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
    _mm256_store_ps(acc + r * 32, c[r][0]);
    _mm256_store_ps(acc + r * 32 + 16, c[r][1]);
  }
  shared_prefetcher = prefetcher;
}

template <class Weights, class Element>
inline void rows_from(std::int64_t row, std::int64_t end, const Part<Element>& part, int half,
                      Prefetcher& prefetcher) noexcept {
  using Block = void (*)(const Part<Element>&, std::int64_t, int, float*, Prefetcher&) noexcept;
  static constexpr Block kBlocks[kRows] = {
      block<Weights, 1, false, Element>, block<Weights, 2, false, Element>,
      block<Weights, 3, false, Element>, block<Weights, 4, false, Element>,
      block<Weights, 5, false, Element>, block<Weights, 6, false, Element>};
  for (; row < end; row += kRows) {
    const std::int64_t rows = end - row < kRows ? end - row : kRows;
    kBlocks[rows - 1](part, row, half, nullptr, prefetcher);
  }
}

template <class Weights, class Element>
inline void all_rows(const GemmArgs& g) noexcept {
  const auto* panel = static_cast<const float*>(g.panel);
  const auto* stripe = static_cast<const Element*>(g.stripe);
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * (g.depth / kUnroll) * kSteps * 2);
  if (Weights::kWide || g.rows <= kRows) {
    const Part<Element> whole{panel, g.panel_stride, stripe, g.depth, g.acc, g.accumulate};
    for (int half = 0; half < 2; ++half) rows_from<Weights>(0, g.rows, whole, half, prefetcher);
    return;
  }
  alignas(64) float widened[kChunk * kStripeColumns];
  for (std::int64_t k = 0; k < g.depth; k += kChunk) {
    const std::int64_t depth = g.depth - k < kChunk ? g.depth - k : kChunk;
    const bool accumulate = g.accumulate || k > 0;
    const Element* from = Weights::at(stripe, k, 0);
    const Part<Element> narrow{panel + k, g.panel_stride, from, depth, g.acc, accumulate};
    const Part<float> wide{panel + k, g.panel_stride, widened, depth, g.acc, accumulate};
    for (int half = 0; half < 2; ++half) {
      block<Weights, kRows, true>(narrow, 0, half, widened, prefetcher);
      rows_from<F32>(kRows, g.rows, wide, half, prefetcher);
    }
  }
}

}  // namespace

void gemm_f32_f32_avx2(const GemmArgs& g) noexcept { all_rows<F32, float>(g); }
void gemm_bf16_f32_avx2(const GemmArgs& g) noexcept { all_rows<Bf16, std::uint16_t>(g); }
void gemm_f16_f32_avx2(const GemmArgs& g) noexcept { all_rows<F16, std::uint16_t>(g); }

}  // namespace switchyard::gemm
