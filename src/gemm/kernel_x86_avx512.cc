#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"
#include "gemm/rounds.h"

// Registers: 12 rows by 32 columns in 24 accumulators, 2 vectors of weights, 1 broadcast: 27 of 32.
//
// Loads: one depth takes 2 vectors and 12 broadcasts, 7 cycles at two a cycle, for 24 FMAs, 12
// cycles at two a cycle: the FMA units are the limit. Rows are addressed from every third one
// (pointer, + stride, + 2 strides) and 8 depths are unrolled, so that little integer arithmetic
// competes with the FMAs for their ports.
//
// More than 20 rows, or f32: the accumulators stay in registers over the whole depth. A stripe (128
// bytes a depth) comes from L2 once for every 12 rows, 128 bytes in 12 cycles; 12 rows of the panel
// beside it, 48 bytes in 12 cycles. Both are prefetched into L1, and a line of the next stripe into
// L2 every few depths. Of the peak, 144 rows of depth 2048, stripes in memory: 0.92 with eight
// lines of the next stripe at a time, 0.97 evenly spaced, 0.985 with all of it. Keeping 128 or 256
// depths of the stripe in L1 instead loses 8 and 3%: accumulators are stored and loaded.
//
// bf16 and f16 weights need 2 to 4 instructions more a depth, on the ports of the FMAs: 0.88 and
// 0.80 of the peak. So the first rows widen them and leave them behind as f32, kChunkSteps at a
// time, for the rows that follow.
//
// Up to 20 rows bf16 and f16 go straight from memory to L1 in rounds (rounds.h), widened twice if
// need be. Of what eight streams of plain loads read, against fetching the next stripe into L2: 1
// and 2 rows 1.0 (0.84, 0.80), 4 rows 0.88 (0.74), 8 rows 0.68 (0.62), 13 rows 0.45 (0.37); from 6
// on the FMA units are the limit.
//
// Where memory is read fastest in order (AMD's Zen 4, CpuFeatures::reads_in_order) all of this is
// done in the order the weights lie in, bf16 one half of a step's columns after the other: twice
// the broadcasts, which its FMA units, one a cycle, leave time for. The hardware fetches for 1 and
// 2 rows; from 3 on weights are fetched into L2 8 KiB ahead. Of a plain reader of one stream, or of
// the peak:
//
//   rows                       1     2     3     4     8    24   48   144
//   bf16, as on Intel          0.50  0.53  0.51  0.62  88%  75%  82%  89%
//         in order             1.03  0.97  1.00  0.86  95%  95%  96%  96%
//   f32,  as on Intel          0.82  0.84        0.76  57%  84%       94% (96)
//         in order             0.98  0.98  0.84  0.81  89%  92%       96%

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;
constexpr int kTwoBlocks = 20;
constexpr int kPlainRows = 2;  // in order: up to which the hardware's prefetchers do
constexpr int kUnroll = 8;
constexpr int kSteps = 2;                              // of a prefetcher in kUnroll depths
constexpr int kCalls = kDepthUnit / kUnroll * kSteps;  // of a prefetcher in a step
constexpr std::int64_t kChunkSteps = 16;  // 64 KiB of widened weights: L2, like the stripe itself

/// load(): the weights of the u-th depth of kUnroll; advance(): to the next kUnroll; prefetch():
/// into L1. Where kRounds is false the weights come in order of depth (f32, where rounds would gain
/// few rows 7% and cost many rows more) or of use (what the first rows left behind).
struct F32 {
  using Element = float;
  static constexpr bool kRounds = false;
  static constexpr int kPasses = 1;
  static inline __m512 load(const float* b, int u, int half) noexcept {
    return _mm512_loadu_ps(b + u * kStripeColumns + half * 16);
  }
  static inline const float* advance(const float* b) noexcept {
    return b + kUnroll * kStripeColumns;
  }
  static inline void prefetch(const float* b, int u) noexcept {
    __builtin_prefetch(b + (u + kUnroll) * kStripeColumns);
    __builtin_prefetch(b + (u + kUnroll) * kStripeColumns + 16);
  }
};

struct F16 {
  using Element = std::uint16_t;
  static constexpr bool kRounds = true;
  static constexpr int kPasses = 1;
  static inline __m512 load(const std::uint16_t* b, int u, int half) noexcept {
    const auto* lanes = reinterpret_cast<const __m256i*>(b + u * kStripeColumns + half * 16);
    return _mm512_cvtph_ps(_mm256_loadu_si256(lanes));
  }
  static inline const std::uint16_t* advance(const std::uint16_t* b) noexcept {
    return b + kUnroll * kStripeColumns;
  }
  static inline void prefetch(const std::uint16_t*, int) noexcept {}
};

// Two depths lie side by side in each 32-bit lane: even in the low half, odd in the high.
template <int passes>
struct Bf16 {
  using Element = std::uint16_t;
  static constexpr bool kRounds = true;
  static constexpr int kPasses = passes;
  static inline __m512 load(const std::uint16_t* b, int u, int half) noexcept {
    const __m512i pair = _mm512_loadu_si512(b + half * 512 + u / 2 * 32);
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm512_castsi512_ps(u % 2 == 0 ? _mm512_slli_epi32(pair, 16)
                                          : _mm512_and_si512(pair, high));
  }
  static inline const std::uint16_t* advance(const std::uint16_t* b) noexcept {
    return b + kUnroll / 2 * 32;
  }
  static inline void prefetch(const std::uint16_t*, int) noexcept {}
};

/// A run of steps of a product's depth. `weights` is where the stripe begins, or what was widened
/// for this run.
template <class Element>
struct Run {
  const float* panel;
  std::int64_t stride;
  const Element* weights;
  Order order;
  std::int64_t steps;
  float* acc;
  bool accumulate;
};

// kUnroll depths of kHalves column halves from `half` on: widened, left behind, multiplied.
template <class Weights, int rows, int kHalves, bool leave, class Ahead>
[[gnu::always_inline]] inline void depths(const typename Weights::Element*& b,
                                          const float* const* third_row, std::int64_t& stride,
                                          int half, float* widened, Ahead& ahead,
                                          __m512 (&c)[rows][2]) noexcept {
#pragma GCC unroll 8
  for (int u = 0; u < kUnroll; ++u) {
    if (u % (kUnroll / kSteps) == 0) ahead.step();
    __asm__("" : "+r"(stride), "+r"(b));  // or GCC 12 keeps stride + u in memory for each u
    __m512 w[kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) w[h] = Weights::load(b, u, half + h);
    Weights::prefetch(b, u);
    if constexpr (leave) {
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        _mm512_store_ps(widened + u * kStripeColumns + (half + h) * 16, w[h]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const __m512 x = _mm512_set1_ps(third_row[r / 3][r % 3 * stride + u]);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) c[r][half + h] = _mm512_fmadd_ps(x, w[h], c[r][half + h]);
    }
  }
}

// Rows [row, row + rows) of a run; with `leave` the weights are left behind in `widened`.
template <class Weights, int rows, bool leave, class Ahead>
inline void block(const Run<typename Weights::Element>& run, std::int64_t row, float* widened,
                  Ahead& shared_ahead) noexcept {
  constexpr int kHalves = 2 / Weights::kPasses;
  Ahead ahead = shared_ahead;  // in registers: through the reference costs 4%
  Order order = run.order;
  std::int64_t stride = run.stride;
  float* acc = run.acc + row * kStripeColumns;
  const float* third_row[(rows + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (rows + 2) / 3; ++i) {
    third_row[i] = run.panel + (row + 3 * i) * stride + order.position() * kDepthUnit;
  }
  __m512 c[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    c[r][0] = run.accumulate ? _mm512_load_ps(acc + r * 32) : _mm512_setzero_ps();
    c[r][1] = run.accumulate ? _mm512_load_ps(acc + r * 32 + 16) : _mm512_setzero_ps();
  }
  const auto* b = run.weights;
  for (std::int64_t left = run.steps; left > 0; --left) {
    const std::int64_t position = order.position();
    order.advance();
    const std::int64_t to_next = (order.position() - position) * kDepthUnit;
#pragma GCC unroll 2
    for (int pass = 0; pass < Weights::kPasses; ++pass) {
      if (Weights::kRounds) {
        b = run.weights + position * (kStepBytes / static_cast<std::int64_t>(sizeof *b));
      }
      for (int k = 0; k < kDepthUnit; k += kUnroll) {
        if (k % 16 == 0 && pass == 0) {
#pragma GCC unroll 12
          for (int r = 0; r < rows; ++r) {
            __builtin_prefetch(&third_row[r / 3][r % 3 * stride + to_next]);
          }
        }
        depths<Weights, rows, kHalves, leave>(b, third_row, stride, pass, widened, ahead, c);
        b = Weights::advance(b);
        if (leave) widened += kUnroll * kStripeColumns;
#pragma GCC unroll 4
        for (auto& pointer : third_row) {
          pointer += kUnroll;
          __asm__("" : "+r"(pointer));  // or GCC 12 keeps one counter and computes each address
        }
      }
      const bool is_last = pass + 1 == Weights::kPasses;
      if (leave && !is_last) widened -= kDepthUnit * kStripeColumns;
#pragma GCC unroll 4
      for (auto& pointer : third_row) pointer += (is_last ? to_next : 0) - kDepthUnit;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    _mm512_store_ps(acc + r * 32, c[r][0]);
    _mm512_store_ps(acc + r * 32 + 16, c[r][1]);
  }
  shared_ahead = ahead;
}

template <class Weights, bool leave, class Ahead>
inline void block_of(int rows, const Run<typename Weights::Element>& run, std::int64_t row,
                     float* widened, Ahead& ahead) noexcept {
  using Block =
      void (*)(const Run<typename Weights::Element>&, std::int64_t, float*, Ahead&) noexcept;
  static constexpr Block kBlocks[kRows] = {
      block<Weights, 1, leave, Ahead>,  block<Weights, 2, leave, Ahead>,
      block<Weights, 3, leave, Ahead>,  block<Weights, 4, leave, Ahead>,
      block<Weights, 5, leave, Ahead>,  block<Weights, 6, leave, Ahead>,
      block<Weights, 7, leave, Ahead>,  block<Weights, 8, leave, Ahead>,
      block<Weights, 9, leave, Ahead>,  block<Weights, 10, leave, Ahead>,
      block<Weights, 11, leave, Ahead>, block<Weights, 12, leave, Ahead>};
  kBlocks[rows - 1](run, row, widened, ahead);
}

// The rows of a block when `left` are to be done: a few would wait for their own sums.
inline int rows_of_block(std::int64_t left) noexcept {
  const std::int64_t blocks = (left + kRows - 1) / kRows;
  return static_cast<int>((left + blocks - 1) / blocks);
}

template <class Ahead>
inline void rows_from(std::int64_t row, std::int64_t end, const Run<float>& run,
                      Ahead& ahead) noexcept {
  while (row < end) {
    const int rows = rows_of_block(end - row);
    block_of<F32, false>(rows, run, row, nullptr, ahead);
    row += rows;
  }
}

// Two blocks of rows take a round of weights from L1, then the next.
template <class Weights>
inline void two_blocks(const GemmArgs& g, Run<typename Weights::Element> run) noexcept {
  RoundAhead<kStepLines / kCalls / 2> ahead(g, run.order);
  const int first = rows_of_block(g.rows);
  run.steps = run.order.streams();
  for (std::int64_t round = run.order.rounds(); round > 0; --round) {
    block_of<Weights, false>(first, run, 0, nullptr, ahead);
    block_of<Weights, false>(static_cast<int>(g.rows) - first, run, first, nullptr, ahead);
    run.order.advance(run.steps);
    run.accumulate = true;
  }
}

template <class Weights>
inline void all_rows(const GemmArgs& g) noexcept {
  using Element = typename Weights::Element;
  const auto* panel = static_cast<const float*>(g.panel);
  const auto* stripe = static_cast<const Element*>(g.stripe);
  const std::int64_t steps = g.depth / kDepthUnit;
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * steps * kCalls);
  if constexpr (!Weights::kRounds) {
    const Run<float> run{panel, g.panel_stride, stripe,      Order(steps, 1),
                         steps, g.acc,          g.accumulate};
    rows_from(0, g.rows, run, prefetcher);
  } else {
    Run<Element> run{panel, g.panel_stride, stripe, Order(steps), steps, g.acc, g.accumulate};
    if (g.rows <= kRows) {
      RoundAhead<kStepLines / kCalls> ahead(g, run.order);
      return block_of<Weights, false>(static_cast<int>(g.rows), run, 0, nullptr, ahead);
    }
    if (g.rows <= kTwoBlocks) return two_blocks<Weights>(g, run);
    alignas(64) float widened[kChunkSteps * kDepthUnit * kStripeColumns];
    const int first = rows_of_block(g.rows);
    for (std::int64_t left = steps; left > 0; left -= run.steps) {
      run.steps = left < kChunkSteps ? left : kChunkSteps;
      block_of<Weights, true>(first, run, 0, widened, prefetcher);
      const Run<float> wide{panel,     g.panel_stride, widened,       run.order,
                            run.steps, g.acc,          run.accumulate};
      rows_from(first, g.rows, wide, prefetcher);
      run.order.advance(run.steps);
      run.accumulate = true;
    }
  }
}

// The same in the order that the weights lie in.
template <class Weights>
inline void all_rows_in_order(const GemmArgs& g) noexcept {
  using Element = typename Weights::Element;
  constexpr std::int64_t kStep = kDepthUnit * kStripeColumns * sizeof(Element);
  const std::int64_t steps = g.depth / kDepthUnit;
  Run<Element> run{static_cast<const float*>(g.panel),
                   g.panel_stride,
                   static_cast<const Element*>(g.stripe),
                   Order(steps, 1),
                   steps,
                   g.acc,
                   g.accumulate};
  NothingAhead nothing;
  if (g.rows <= kPlainRows) {
    return block_of<Weights, false>(static_cast<int>(g.rows), run, 0, nullptr, nothing);
  }
  InOrderAhead<kStep / 64 / (kCalls * Weights::kPasses)> ahead(g, steps * kStep);
  const int first = rows_of_block(g.rows);
  if (first == g.rows || !Weights::kRounds) {
    block_of<Weights, false>(first, run, 0, nullptr, ahead);
    if constexpr (!Weights::kRounds) rows_from(first, g.rows, run, nothing);
    return;
  }
  alignas(64) float widened[kChunkSteps * kDepthUnit * kStripeColumns];
  for (std::int64_t left = steps; left > 0; left -= run.steps) {
    run.steps = left < kChunkSteps ? left : kChunkSteps;
    block_of<Weights, true>(first, run, 0, widened, ahead);
    const Run<float> wide{run.panel, run.stride, widened,       run.order,
                          run.steps, run.acc,    run.accumulate};
    rows_from(first, g.rows, wide, nothing);
    run.order.advance(run.steps);
    run.accumulate = true;
  }
}

template <class Weights, class InOrder = Weights>
inline void multiply(const GemmArgs& g) noexcept {
  if (g.in_order) return all_rows_in_order<InOrder>(g);
  all_rows<Weights>(g);
}

}  // namespace

void gemm_f32_f32_avx512(const GemmArgs& g) noexcept { multiply<F32>(g); }
void gemm_bf16_f32_avx512(const GemmArgs& g) noexcept { multiply<Bf16<1>, Bf16<2>>(g); }
void gemm_f16_f32_avx512(const GemmArgs& g) noexcept { multiply<F16>(g); }

}  // namespace switchyard::gemm
