#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"
#include "gemm/rounds.h"

// Registers: 6 rows by 16 columns in 12 accumulators, 2 vectors of weights, 1 broadcast: 15 of 16.
// A stripe's 32 columns are done as two halves, a cache line of each depth. One or two rows
// take all four vectors at once: fewer than 8 sums would wait for each other.
//
// Loads: one depth takes 2 vectors and 6 broadcasts, 4 cycles at two a cycle, for 12 FMAs, 6 cycles
// at two a cycle. As in the AVX-512 kernel rows are addressed from every third one and 8 depths are
// unrolled, so that little integer arithmetic competes with the FMAs for their ports.
//
// More than 6 rows: the accumulators stay in registers over the whole depth; for every 6 rows each
// half reads 64 bytes a depth of the stripe from L2 in 6 cycles, and 24 bytes of rows. Rows are
// prefetched into L1 32 depths ahead, the next stripe into L2 a line every few depths.
//
// Widening bf16 and f16 takes 2 to 4 instructions a depth beside 12 FMAs: 0.73 and 0.77 of the
// peak. So the first rows leave the weights behind as f32, a chunk at a time, for the rows that
// follow.
//
// Up to 6 rows bf16 and f16 go straight from memory to L1 in rounds (rounds.h); both halves of
// kPassSteps are done before the next, while they are there. Of what eight streams of plain loads
// read, against fetching the next stripe into L2: 1 row 1.04 (0.78), 4 rows 0.83 (0.73).
//
// Where memory is read fastest in order (AMD's Zen 4, CpuFeatures::reads_in_order) weights are, a
// half of a step and then the other, as in the AVX-512 kernel. bf16, of a plain reader of one
// stream, or of the peak:
//
//   rows          1     2     3     4     8    12   24   48   144
//   as on Intel   0.54  0.50  0.64  0.62  61%  73%  79%  74%  83%
//   in order      1.03  0.93  0.87  0.76  76%  84%  86%  89%  89%

namespace switchyard::gemm {
namespace {

constexpr int kRows = 6;
constexpr int kWholeRows = 2;  // with all columns at once
constexpr int kUnroll = 8;
constexpr int kSteps = 2;                              // of a prefetcher in kUnroll depths
constexpr int kCalls = kDepthUnit / kUnroll * kSteps;  // of a prefetcher in a step
// Widened weights of a chunk: 64 KiB, in L2 like the stripe itself; 16 KiB, in L1, for a few blocks
// of rows, which read them too often to wait for L2 (7 rows 1.2, 12 rows 1.07 times as fast).
constexpr std::int64_t kChunkSteps = 16, kShortChunkSteps = 4;
constexpr std::int64_t kShortChunkRows = 24;
constexpr std::int64_t kPassSteps = 4;
constexpr std::int64_t kPlainRows = 2;  // in order: up to which the hardware's prefetchers do

/// at(): columns 16 half and up of a stripe; load(): the v-th 8 of them of the u-th depth of
/// kUnroll; advance(): to the next kUnroll. Where kRounds is false the weights come in order of
/// depth (f32) or of use (what the first rows left behind), as in the AVX-512 kernel.
struct F32 {
  using Element = float;
  static constexpr bool kRounds = false;
  static inline const float* at(const float* stripe, int half) noexcept {
    return stripe + half * 16;
  }
  static inline __m256 load(const float* b, int u, int v) noexcept {
    return _mm256_loadu_ps(b + u * kStripeColumns + v * 8);
  }
  static inline const float* advance(const float* b) noexcept {
    return b + kUnroll * kStripeColumns;
  }
};

struct F16 {
  using Element = std::uint16_t;
  static constexpr bool kRounds = true;
  static inline const std::uint16_t* at(const std::uint16_t* stripe, int half) noexcept {
    return stripe + half * 16;
  }
  static inline __m256 load(const std::uint16_t* b, int u, int v) noexcept {
    const auto* lanes = reinterpret_cast<const __m128i*>(b + u * kStripeColumns + v * 8);
    return _mm256_cvtph_ps(_mm_loadu_si128(lanes));
  }
  static inline const std::uint16_t* advance(const std::uint16_t* b) noexcept {
    return b + kUnroll * kStripeColumns;
  }
};

// Two depths lie side by side in each 32-bit lane: even in the low half, odd in the high.
struct Bf16 {
  using Element = std::uint16_t;
  static constexpr bool kRounds = true;
  static inline const std::uint16_t* at(const std::uint16_t* stripe, int half) noexcept {
    return stripe + half * 512;
  }
  static inline __m256 load(const std::uint16_t* b, int u, int v) noexcept {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    const auto* lanes = reinterpret_cast<const __m256i*>(b + v / 2 * 512 + u / 2 * 32 + v % 2 * 16);
    const __m256i pair = _mm256_loadu_si256(lanes);
    return _mm256_castsi256_ps(u % 2 == 0 ? _mm256_slli_epi32(pair, 16)
                                          : _mm256_and_si256(pair, high));
  }
  static inline const std::uint16_t* advance(const std::uint16_t* b) noexcept {
    return b + kUnroll / 2 * 32;
  }
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

// Rows [row, row + rows) of a run, `vectors` of columns from 16 half; with `leave` the weights are
// left behind in `widened`.
template <class Weights, int rows, int vectors, bool leave, class Ahead>
inline void block(const Run<typename Weights::Element>& run, std::int64_t row, int half,
                  float* widened, Ahead& shared_ahead) noexcept {
  Ahead ahead = shared_ahead;  // in registers, not through the reference
  Order order = run.order;
  std::int64_t stride = run.stride;
  float* acc = run.acc + row * kStripeColumns + half * 16;
  const float* third_row[(rows + 2) / 3];
#pragma GCC unroll 2
  for (int i = 0; i < (rows + 2) / 3; ++i) {
    third_row[i] = run.panel + (row + 3 * i) * stride + order.position() * kDepthUnit;
  }
  __m256 c[rows][vectors];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      c[r][v] = run.accumulate ? _mm256_load_ps(acc + r * 32 + v * 8) : _mm256_setzero_ps();
    }
  }
  const auto* b = Weights::at(run.weights, half);
  if (leave) widened += half * 16;
  for (std::int64_t left = run.steps; left > 0; --left) {
    const std::int64_t position = order.position();
    if (Weights::kRounds) b = Weights::at(run.weights + position * (kStepBytes / 2), half);
    order.advance();
    const std::int64_t to_next = (order.position() - position) * kDepthUnit;
    for (int k = 0; k < kDepthUnit; k += kUnroll) {
      if (k % 16 == 0) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          __builtin_prefetch(&third_row[r / 3][r % 3 * stride + to_next]);
        }
      }
#pragma GCC unroll 8
      for (int u = 0; u < kUnroll; ++u) {
        if (u % (kUnroll / kSteps) == 0) ahead.step();
        __asm__("" : "+r"(stride), "+r"(b));  // or GCC 12 keeps stride + u in memory for each u
        __m256 w[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          w[v] = Weights::load(b, u, v);
          if constexpr (leave) _mm256_store_ps(widened + u * kStripeColumns + v * 8, w[v]);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          const __m256 x = _mm256_broadcast_ss(&third_row[r / 3][r % 3 * stride + u]);
#pragma GCC unroll 4
          for (int v = 0; v < vectors; ++v) c[r][v] = _mm256_fmadd_ps(x, w[v], c[r][v]);
        }
      }
      b = Weights::advance(b);
      if (leave) widened += kUnroll * kStripeColumns;
#pragma GCC unroll 2
      for (auto& pointer : third_row) {
        pointer += kUnroll;
        __asm__("" : "+r"(pointer));  // or GCC 12 keeps one counter and computes each row's address
      }
    }
#pragma GCC unroll 2
    for (auto& pointer : third_row) pointer += to_next - kDepthUnit;
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) _mm256_store_ps(acc + r * 32 + v * 8, c[r][v]);
  }
  shared_ahead = ahead;
}

template <class Weights, bool leave, class Ahead>
inline void half_of(int rows, const Run<typename Weights::Element>& run, std::int64_t row, int half,
                    float* widened, Ahead& ahead) noexcept {
  using Block =
      void (*)(const Run<typename Weights::Element>&, std::int64_t, int, float*, Ahead&) noexcept;
  static constexpr Block kBlocks[kRows] = {
      block<Weights, 1, 2, leave, Ahead>, block<Weights, 2, 2, leave, Ahead>,
      block<Weights, 3, 2, leave, Ahead>, block<Weights, 4, 2, leave, Ahead>,
      block<Weights, 5, 2, leave, Ahead>, block<Weights, 6, 2, leave, Ahead>};
  kBlocks[rows - 1](run, row, half, widened, ahead);
}

// The rows of a block when `left` are to be done: a few would wait for their own sums.
inline int rows_of_block(std::int64_t left) noexcept {
  const std::int64_t blocks = (left + kRows - 1) / kRows;
  return static_cast<int>((left + blocks - 1) / blocks);
}

template <class Ahead>
inline void rows_from(std::int64_t row, std::int64_t end, const Run<float>& run, int half,
                      Ahead& ahead) noexcept {
  while (row < end) {
    const int rows = rows_of_block(end - row);
    half_of<F32, false>(rows, run, row, half, nullptr, ahead);
    row += rows;
  }
}

// One or two rows, all columns of them.
template <class Weights, class Ahead>
inline void whole_rows(std::int64_t rows, const Run<typename Weights::Element>& run,
                       Ahead ahead) noexcept {
  if (rows == 1) return block<Weights, 1, 4, false, Ahead>(run, 0, 0, nullptr, ahead);
  block<Weights, 2, 4, false, Ahead>(run, 0, 0, nullptr, ahead);
}

// The first rows, both halves of `pass` steps before the next.
template <class Weights, bool leave, class Ahead>
inline void in_passes(int rows, Run<typename Weights::Element> run, std::int64_t pass,
                      float* widened, Ahead& ahead) noexcept {
  for (std::int64_t left = run.steps; left > 0; left -= run.steps) {
    run.steps = left < pass ? left : pass;
    for (int half = 0; half < 2; ++half) {
      half_of<Weights, leave>(rows, run, 0, half, widened, ahead);
    }
    run.order.advance(run.steps);
    run.accumulate = true;
    if (leave) widened += run.steps * kDepthUnit * kStripeColumns;
    if (!Weights::kRounds) run.weights += run.steps * kDepthUnit * kStripeColumns;
  }
}

template <class Weights>
inline void few_rows(const GemmArgs& g, const Run<typename Weights::Element>& run) noexcept {
  if (g.rows <= kWholeRows) {
    return whole_rows<Weights>(g.rows, run, RoundAhead<kStepLines / kCalls>(g, run.order));
  }
  RoundAhead<kStepLines / (2 * kCalls)> ahead(g, run.order);
  in_passes<Weights, false>(static_cast<int>(g.rows), run, kPassSteps, nullptr, ahead);
}

template <class Weights>
inline void all_rows(const GemmArgs& g) noexcept {
  using Element = typename Weights::Element;
  const auto* panel = static_cast<const float*>(g.panel);
  const auto* stripe = static_cast<const Element*>(g.stripe);
  const std::int64_t steps = g.depth / kDepthUnit;
  Prefetcher prefetcher(g, (g.rows + kRows - 1) / kRows * steps * kCalls * 2);
  if constexpr (!Weights::kRounds) {
    const Run<float> run{panel, g.panel_stride, stripe,      Order(steps, 1),
                         steps, g.acc,          g.accumulate};
    if (g.rows <= kWholeRows) {
      return whole_rows<Weights>(g.rows, run, Prefetcher(g, steps * kCalls));
    }
    for (int half = 0; half < 2; ++half) rows_from(0, g.rows, run, half, prefetcher);
  } else {
    Run<Element> run{panel, g.panel_stride, stripe, Order(steps), steps, g.acc, g.accumulate};
    if (g.rows <= kRows) return few_rows<Weights>(g, run);
    alignas(64) float widened[kChunkSteps * kDepthUnit * kStripeColumns];
    const int first = rows_of_block(g.rows);
    const std::int64_t chunk = g.rows <= kShortChunkRows ? kShortChunkSteps : kChunkSteps;
    for (std::int64_t left = steps; left > 0; left -= run.steps) {
      run.steps = left < chunk ? left : chunk;
      const Run<float> wide{panel,     g.panel_stride, widened,       run.order,
                            run.steps, g.acc,          run.accumulate};
      for (int half = 0; half < 2; ++half) {
        half_of<Weights, true>(first, run, 0, half, widened, prefetcher);
        rows_from(first, g.rows, wide, half, prefetcher);
      }
      run.order.advance(run.steps);
      run.accumulate = true;
    }
  }
}

// The same in the order that the weights lie in: both halves of each step before the next.
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
  const int first = rows_of_block(g.rows);
  if (g.rows <= kPlainRows) {
    if constexpr (!Weights::kRounds) return whole_rows<Weights>(g.rows, run, nothing);
    return in_passes<Weights, false>(first, run, 1, nullptr, nothing);
  }
  InOrderAhead<kStep / 64 / (2 * kCalls)> ahead(g, steps * kStep);
  if (first == g.rows) return in_passes<Weights, false>(first, run, 1, nullptr, ahead);
  if constexpr (!Weights::kRounds) {
    in_passes<Weights, false>(first, run, 1, nullptr, ahead);
    for (int half = 0; half < 2; ++half) rows_from(first, g.rows, run, half, nothing);
    return;
  }
  alignas(64) float widened[kChunkSteps * kDepthUnit * kStripeColumns];
  const std::int64_t chunk = g.rows <= kShortChunkRows ? kShortChunkSteps : kChunkSteps;
  for (std::int64_t left = steps; left > 0; left -= run.steps) {
    run.steps = left < chunk ? left : chunk;
    in_passes<Weights, true>(first, run, 1, widened, ahead);
    const Run<float> wide{run.panel, run.stride, widened,       run.order,
                          run.steps, run.acc,    run.accumulate};
    for (int half = 0; half < 2; ++half) rows_from(first, g.rows, wide, half, nothing);
    run.order.advance(run.steps);
    run.accumulate = true;
  }
}

template <class Weights>
inline void multiply(const GemmArgs& g) noexcept {
  if (g.in_order) return all_rows_in_order<Weights>(g);
  all_rows<Weights>(g);
}

}  // namespace

void gemm_f32_f32_avx2(const GemmArgs& g) noexcept { multiply<F32>(g); }
void gemm_bf16_f32_avx2(const GemmArgs& g) noexcept { multiply<Bf16>(g); }
void gemm_f16_f32_avx2(const GemmArgs& g) noexcept { multiply<F16>(g); }

}  // namespace switchyard::gemm
