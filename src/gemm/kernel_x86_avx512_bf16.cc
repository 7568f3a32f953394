#include <immintrin.h>

#include "gemm/gemm_kernel.h"

// For CPUs whose vdpbf16ps takes as long as an FMA (CpuFeatures::fast_dot_bf16): AMD's. On Intel it
// takes four times as long, and widening to f32 is faster (kernel_x86_avx512.cc).
//
// Registers: 12 rows by 32 columns in 24 accumulators, 1 vector of weights, 1 broadcast. A pair of
// depths of 16 columns takes 1 load of weights and 12 broadcasts for 12 vdpbf16ps, one a cycle on
// Zen 4: the products are the limit. Rows are addressed from every third one.
//
// Weights are read in the order they lie in, first one half of a step's columns and then the other.
// Zen 4 keeps some 24 lines on their way into L1, 12 GB/s at this memory's latency, whether loads
// or prefetches ask for them; only its prefetchers into L2 reach 34 GB/s on one core, and they
// follow one sequential stream best. Of what a plain reader of one stream gets, one core, depth
// 2048, weights from memory (beside it, of the peak):
//
//   rows                                1     4     8         12        16        144
//   both halves in turn, 8 streams      0.53  0.48  0.51 55%  0.45 76%  0.19 42%  85%
//   both halves in turn, in order       0.34  0.38  0.32 35%  0.26 45%  0.24 53%  89%
//   half by half, in order              1.02  1.03  0.67 69%  0.46 70%  0.42 90%  96%
//   and 8 KiB ahead into L2             0.75  0.78  0.90 93%  0.63 96%  0.44 96%  98%
//
// The last line from 7 rows on, the one before it up to 6. 4 KiB ahead 8 and 12 rows reach 77 and
// 92% of the peak, 12 to 32 KiB the same as 8, into L1 at most 79 and 88%.
//
// Two blocks of rows take 16 KiB of weights from L1 in turn: while the second one went through a
// whole stripe in L2 no memory would be read. Where a neighbour slows memory down to 17 GB/s a core
// that is 1.08 to 1.13 times as fast (16 and 20 rows), else the same; more rows lose 2 to 3%.

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;
constexpr int kPairs = 4;                // of depths, unrolled
constexpr std::int64_t kHalfStep = 512;  // elements: 16 pairs of depths of 16 columns
constexpr std::int64_t kStepBytes = 4 * kHalfStep;
constexpr std::int64_t kPlainRows = 6;  // up to which the hardware's prefetchers do
constexpr std::int64_t kStepsAhead = 4;
constexpr std::int64_t kPassRows = 24;  // up to which rows take weights in passes
constexpr std::int64_t kPassSteps = 8;

// Where the weights lie that are needed kStepsAhead later: in this stripe, in the next one, or
// nowhere, then those of this step, which costs nothing.
inline const std::byte* weights_ahead(const GemmArgs& g, std::int64_t step) noexcept {
  const std::int64_t ahead = step + kStepsAhead, steps = g.depth / kDepthUnit;
  const auto* stripe = static_cast<const std::byte*>(g.stripe);
  if (ahead < steps) return stripe + ahead * kStepBytes;
  const bool is_known = g.prefetch != nullptr && ahead - steps < steps;
  return is_known ? g.prefetch + (ahead - steps) * kStepBytes : stripe + step * kStepBytes;
}

/// Steps [begin, end) of a stripe.
struct Steps {
  std::int64_t begin, end;
};

template <int rows, bool fetch>
inline void block(const GemmArgs& g, std::int64_t row, Steps steps) noexcept {
  std::int64_t stride = g.panel_stride;
  const auto* third_row_of =
      static_cast<const std::uint16_t*>(g.panel) + row * stride + steps.begin * kDepthUnit;
  const std::uint16_t* third_row[(rows + 2) / 3];
#pragma GCC unroll 4
  for (auto& pointer : third_row) {
    pointer = third_row_of;
    third_row_of += 3 * stride;
  }
  float* acc = g.acc + row * kStripeColumns;
  const bool accumulate = g.accumulate || steps.begin > 0;
  __m512 c[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    c[r][0] = accumulate ? _mm512_load_ps(acc + r * 32) : _mm512_setzero_ps();
    c[r][1] = accumulate ? _mm512_load_ps(acc + r * 32 + 16) : _mm512_setzero_ps();
  }
  const auto* b = static_cast<const std::uint16_t*>(g.stripe) + steps.begin * 2 * kHalfStep;
  for (std::int64_t step = steps.begin; step < steps.end; ++step) {
    const std::byte* ahead = fetch ? weights_ahead(g, step) : nullptr;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      for (int pair = 0; pair < kDepthUnit / 2; pair += kPairs) {
#pragma GCC unroll 4
        for (int u = 0; u < kPairs; ++u) {
          __asm__("" : "+r"(stride), "+r"(b));  // or GCC 12 keeps stride + u in memory for each u
          if (fetch) __builtin_prefetch(ahead + u * 64, 0, 2);
          const __m512bh weights = (__m512bh)_mm512_loadu_si512(b + u * 32);
#pragma GCC unroll 12
          for (int r = 0; r < rows; ++r) {
            int x;
            __builtin_memcpy(&x, third_row[r / 3] + r % 3 * stride + 2 * u, sizeof x);
            c[r][half] = _mm512_dpbf16_ps(c[r][half], (__m512bh)_mm512_set1_epi32(x), weights);
          }
        }
        b += kPairs * 32;
        if (fetch) ahead += kPairs * 64;
#pragma GCC unroll 4
        for (auto& pointer : third_row) {
          pointer += 2 * kPairs;
          __asm__("" : "+r"(pointer));  // or GCC 12 keeps one counter and computes each address
        }
      }
#pragma GCC unroll 4
      for (auto& pointer : third_row) pointer -= half == 0 ? kDepthUnit : 0;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    _mm512_store_ps(acc + r * 32, c[r][0]);
    _mm512_store_ps(acc + r * 32 + 16, c[r][1]);
  }
}

// Blocks of even size: a few rows would wait for their own sums.
template <bool fetch>
inline void all_rows(const GemmArgs& g, Steps steps) noexcept {
  using Block = void (*)(const GemmArgs&, std::int64_t, Steps) noexcept;
  static constexpr Block kBlocks[kRows] = {block<1, fetch>,  block<2, fetch>,  block<3, fetch>,
                                           block<4, fetch>,  block<5, fetch>,  block<6, fetch>,
                                           block<7, fetch>,  block<8, fetch>,  block<9, fetch>,
                                           block<10, fetch>, block<11, fetch>, block<12, fetch>};
  for (std::int64_t row = 0; row < g.rows;) {
    const std::int64_t blocks = (g.rows - row + kRows - 1) / kRows;
    const std::int64_t rows = (g.rows - row + blocks - 1) / blocks;
    kBlocks[rows - 1](g, row, steps);
    row += rows;
  }
}

}  // namespace

void gemm_bf16_bf16_avx512_bf16(const GemmArgs& g) noexcept {
  const std::int64_t steps = g.depth / kDepthUnit;
  if (g.rows <= kPlainRows) return all_rows<false>(g, {0, steps});
  if (g.rows <= kRows || g.rows > kPassRows) return all_rows<true>(g, {0, steps});
  for (std::int64_t step = 0; step < steps; step += kPassSteps) {
    const std::int64_t left = steps - step;
    all_rows<true>(g, {step, step + (left < kPassSteps ? left : kPassSteps)});
  }
}

}  // namespace switchyard::gemm
