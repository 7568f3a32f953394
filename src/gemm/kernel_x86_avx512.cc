#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// Registers: 12 rows by 32 columns in 24 accumulators, 2 vectors of weights, 1 broadcast: 27 of 32.
//
// Loads: one depth takes 2 vectors and 12 broadcasts, 7 cycles at two a cycle, for 24 FMAs, 12
// cycles at two a cycle: the FMA units are the limit. Rows are addressed from every third one
// (pointer, + stride, + 2 strides) and 8 depths are unrolled, so that little integer arithmetic
// competes with the FMAs for their ports.
//
// Caches: the accumulators stay in registers over the whole depth. A stripe (128 bytes a depth)
// comes from L2 once for every 12 rows, 128 bytes in 12 cycles; 12 rows of the panel beside it, 48
// bytes in 12 cycles. Both are prefetched into L1, 8 and 32 depths ahead, and a line of the next
// stripe into L2 every few depths. Of the peak, 144 rows of depth 2048, stripes in memory: 0.92
// with eight lines of the next stripe at a time, 0.97 evenly spaced, 0.985 with all of it. Keeping
// 128 or 256 depths of the stripe in L1 instead loses 8 and 3%: accumulators are stored and loaded.
//
// bf16 and f16 weights need 2 to 4 instructions more a depth, on the ports of the FMAs: 0.88 and
// 0.80 of the peak. So the first 12 rows widen them and leave them behind as f32, kChunk depths at
// a time, for the rows that follow.

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;
constexpr int kUnroll = 8;
constexpr int kSteps = 2;               // of the prefetcher in kUnroll depths
constexpr std::int64_t kRowAhead = 32;  // depths: two lines of a row
constexpr std::int64_t kChunk = 512;    // 64 KiB of widened weights: L2, like the stripe itself

/// at(): the weights of depth k, a multiple of kUnroll; load(): those of the u-th depth after it;
/// prefetch(): into L1, kUnroll depths ahead.
struct F32 {
  static constexpr bool kWide = true;
  static inline const float* at(const float* stripe, std::int64_t k) noexcept {
    return stripe + k * kStripeColumns;
  }
  static inline __m512 load(const float* b, int u, int half) noexcept {
    return _mm512_loadu_ps(b + u * kStripeColumns + half * 16);
  }
  static inline void prefetch(const float* b, int u) noexcept {
    __builtin_prefetch(b + (u + kUnroll) * kStripeColumns);
    __builtin_prefetch(b + (u + kUnroll) * kStripeColumns + 16);
  }
};

struct F16 {
  static constexpr bool kWide = false;
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k) noexcept {
    return stripe + k * kStripeColumns;
  }
  static inline __m512 load(const std::uint16_t* b, int u, int half) noexcept {
    const auto* lanes = reinterpret_cast<const __m256i*>(b + u * kStripeColumns + half * 16);
    return _mm512_cvtph_ps(_mm256_loadu_si256(lanes));
  }
  static inline void prefetch(const std::uint16_t*, int) noexcept {}
};

// Two depths lie side by side in each 32-bit lane: even in the low half, odd in the high.
struct Bf16 {
  static constexpr bool kWide = false;
  static inline const std::uint16_t* at(const std::uint16_t* stripe, std::int64_t k) noexcept {
    return stripe + k / kDepthUnit * 1024 + k % kDepthUnit * 16;
  }
  static inline __m512 load(const std::uint16_t* b, int u, int half) noexcept {
    const __m512i pair = _mm512_loadu_si512(b + half * 512 + u / 2 * 32);
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm512_castsi512_ps(u % 2 == 0 ? _mm512_slli_epi32(pair, 16)
                                          : _mm512_and_si512(pair, high));
  }
  static inline void prefetch(const std::uint16_t*, int) noexcept {}
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

// Rows [row, row + rows) of a part; with `leave` the weights are left behind in `widened`.
template <class Weights, int rows, bool leave, class Element>
inline void block(const Part<Element>& part, std::int64_t row, float* widened,
                  Prefetcher& shared_prefetcher) noexcept {
  Prefetcher prefetcher = shared_prefetcher;  // in registers: through the reference costs 4%
  std::int64_t stride = part.stride;
  float* acc = part.acc + row * kStripeColumns;
  const float* third_row[(rows + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (rows + 2) / 3; ++i) third_row[i] = part.panel + (row + 3 * i) * stride;
  __m512 c[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    c[r][0] = part.accumulate ? _mm512_load_ps(acc + r * 32) : _mm512_setzero_ps();
    c[r][1] = part.accumulate ? _mm512_load_ps(acc + r * 32 + 16) : _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < part.depth; k += kUnroll) {
    const Element* b = Weights::at(part.stripe, k);
    if (k % 16 == 0) {
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        __builtin_prefetch(&third_row[r / 3][r % 3 * stride + kRowAhead]);
      }
    }
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll; ++u) {
      if (u % (kUnroll / kSteps) == 0) prefetcher.step();
      __asm__("" : "+r"(stride));  // or GCC 12 keeps stride + u in memory for each u
      const __m512 b0 = Weights::load(b, u, 0), b1 = Weights::load(b, u, 1);
      Weights::prefetch(b, u);
      if constexpr (leave) {
        _mm512_store_ps(widened + (k + u) * kStripeColumns, b0);
        _mm512_store_ps(widened + (k + u) * kStripeColumns + 16, b1);
      }
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        const __m512 x = _mm512_set1_ps(third_row[r / 3][r % 3 * stride + u]);
        c[r][0] = _mm512_fmadd_ps(x, b0, c[r][0]);
        c[r][1] = _mm512_fmadd_ps(x, b1, c[r][1]);
      }
    }
#pragma GCC unroll 4
    for (auto& pointer : third_row) {
      pointer += kUnroll;
      __asm__("" : "+r"(pointer));  // or GCC 12 keeps one counter and computes each row's address
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    _mm512_store_ps(acc + r * 32, c[r][0]);
    _mm512_store_ps(acc + r * 32 + 16, c[r][1]);
  }
  shared_prefetcher = prefetcher;
}

template <class Weights, class Element>
inline void rows_from(std::int64_t row, std::int64_t end, const Part<Element>& part,
                      Prefetcher& prefetcher) noexcept {
  using Block = void (*)(const Part<Element>&, std::int64_t, float*, Prefetcher&) noexcept;
  static constexpr Block kBlocks[kRows] = {
      block<Weights, 1, false, Element>,  block<Weights, 2, false, Element>,
      block<Weights, 3, false, Element>,  block<Weights, 4, false, Element>,
      block<Weights, 5, false, Element>,  block<Weights, 6, false, Element>,
      block<Weights, 7, false, Element>,  block<Weights, 8, false, Element>,
      block<Weights, 9, false, Element>,  block<Weights, 10, false, Element>,
      block<Weights, 11, false, Element>, block<Weights, 12, false, Element>};
  for (; row < end; row += kRows) {
    const std::int64_t rows = end - row < kRows ? end - row : kRows;
    kBlocks[rows - 1](part, row, nullptr, prefetcher);
  }
}

template <class Weights, class Element>
inline void all_rows(const GemmArgs& g) noexcept {
  const auto* panel = static_cast<const float*>(g.panel);
  const auto* stripe = static_cast<const Element*>(g.stripe);
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * (g.depth / kUnroll) * kSteps);
  if (Weights::kWide || g.rows <= kRows) {
    const Part<Element> whole{panel, g.panel_stride, stripe, g.depth, g.acc, g.accumulate};
    return rows_from<Weights>(0, g.rows, whole, prefetcher);
  }
  alignas(64) float widened[kChunk * kStripeColumns];
  for (std::int64_t k = 0; k < g.depth; k += kChunk) {
    const std::int64_t depth = g.depth - k < kChunk ? g.depth - k : kChunk;
    const bool accumulate = g.accumulate || k > 0;
    const Part<Element> narrow{panel + k, g.panel_stride, Weights::at(stripe, k),
                               depth,     g.acc,          accumulate};
    const Part<float> wide{panel + k, g.panel_stride, widened, depth, g.acc, accumulate};
    block<Weights, kRows, true>(narrow, 0, widened, prefetcher);
    rows_from<F32>(kRows, g.rows, wide, prefetcher);
  }
}

}  // namespace

void gemm_f32_f32_avx512(const GemmArgs& g) noexcept { all_rows<F32, float>(g); }
void gemm_bf16_f32_avx512(const GemmArgs& g) noexcept { all_rows<Bf16, std::uint16_t>(g); }
void gemm_f16_f32_avx512(const GemmArgs& g) noexcept { all_rows<F16, std::uint16_t>(g); }

}  // namespace switchyard::gemm
