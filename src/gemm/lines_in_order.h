#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// The product of a panel of rows with weights that are read in the order they lie in, for dot
// products of four bytes of depth: of bf16 pairs (vdpbf16ps) and of int8 (vpdpbusd).
//
// A step is 2 KiB of weights, 16 lines of the first 16 columns and then 16 of the others, a line
// four bytes of depth of each; and 64 bytes of each row.
//
// Registers: 12 rows by 32 columns in 24 accumulators, 1 line of weights, 1 broadcast. A line takes
// 1 load and 12 broadcasts for 12 products, one a cycle on Zen 4: the products are the limit. Rows
// are addressed from every third one.
//
// Zen 4 keeps some 24 lines on their way into L1, 12 GB/s at this memory's latency, whether loads
// or prefetches ask for them; only its prefetchers into L2 reach 34 GB/s on one core, and they
// follow one sequential stream best. Of what a plain reader of one stream gets, one core, bf16 of
// depth 2048, weights from memory (beside it, of the peak):
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
//
// Internal linkage throughout: each file of an ISA gets a copy of its own.

namespace switchyard::gemm {
namespace {

/// acc[r, j] = (accumulate ? acc[r, j] : 0) + sum over the steps of rows[r] * weights[j]; acc is
/// [rows, 32] of 32 bits, 64-byte aligned.
struct LinesInOrder {
  const std::byte* panel;
  std::int64_t row_bytes;  ///< from a row to the next
  const std::byte* weights;
  std::int64_t steps;
  const std::byte* next;  ///< as many steps that are needed after these; may be null
  float* acc;
  std::int64_t rows;
  bool accumulate;
};

/// Steps [begin, end).
struct Steps {
  std::int64_t begin, end;
};

constexpr int kBlockRows = 12;
constexpr int kLines = 4;  // unrolled
constexpr int kHalfLines = 16;
constexpr std::int64_t kLineBytes = 64, kStepBytes = 2 * kHalfLines * kLineBytes;
constexpr std::int64_t kRowStep = 64;
constexpr std::int64_t kStepsAhead = 4;
constexpr std::int64_t kPlainRows = 6;  // up to which the hardware's prefetchers do
constexpr std::int64_t kPassRows = 24;  // up to which rows take weights in passes
constexpr std::int64_t kPassSteps = 8;

// Where the weights lie that are needed kStepsAhead later: here, in what is next, or nowhere, then
// those of this step, which costs nothing.
inline const std::byte* weights_ahead(const LinesInOrder& in, std::int64_t step) noexcept {
  const std::int64_t ahead = step + kStepsAhead;
  if (ahead < in.steps) return in.weights + ahead * kStepBytes;
  const bool is_known = in.next != nullptr && ahead - in.steps < in.steps;
  return is_known ? in.next + (ahead - in.steps) * kStepBytes : in.weights + step * kStepBytes;
}

/// Dot: zero(), load(acc), store(acc, sum) and add(sum, line, four bytes of depth in every lane).
template <class Dot, int rows, bool fetch>
inline void block_in_order(const LinesInOrder& in, std::int64_t row, Steps steps) noexcept {
  std::int64_t stride = in.row_bytes;
  const std::byte* third_row[(rows + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (rows + 2) / 3; ++i) {
    third_row[i] = in.panel + (row + 3 * i) * stride + steps.begin * kRowStep;
  }
  float* acc = in.acc + row * 32;
  const bool accumulate = in.accumulate || steps.begin > 0;
  typename Dot::Sum sum[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    sum[r][0] = accumulate ? Dot::load(acc + r * 32) : Dot::zero();
    sum[r][1] = accumulate ? Dot::load(acc + r * 32 + 16) : Dot::zero();
  }
  const std::byte* weights = in.weights + steps.begin * kStepBytes;
  for (std::int64_t step = steps.begin; step < steps.end; ++step) {
    const std::byte* ahead = fetch ? weights_ahead(in, step) : nullptr;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < kHalfLines; i += kLines) {
#pragma GCC unroll 4
        for (int u = 0; u < kLines; ++u) {
          __asm__("" : "+r"(stride), "+r"(weights));  // or GCC 12 keeps stride + u for each u
          if (fetch) __builtin_prefetch(ahead + u * kLineBytes, 0, 2);
          const __m512i line = _mm512_loadu_si512(weights + u * kLineBytes);
#pragma GCC unroll 12
          for (int r = 0; r < rows; ++r) {
            int x;
            __builtin_memcpy(&x, third_row[r / 3] + r % 3 * stride + 4 * u, sizeof x);
            sum[r][half] = Dot::add(sum[r][half], line, _mm512_set1_epi32(x));
          }
        }
        weights += kLines * kLineBytes;
        if (fetch) ahead += kLines * kLineBytes;
#pragma GCC unroll 4
        for (auto& pointer : third_row) {
          pointer += 4 * kLines;
          __asm__("" : "+r"(pointer));  // or GCC 12 keeps one counter and computes each address
        }
      }
#pragma GCC unroll 4
      for (auto& pointer : third_row) pointer -= half == 0 ? kRowStep : 0;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    Dot::store(acc + r * 32, sum[r][0]);
    Dot::store(acc + r * 32 + 16, sum[r][1]);
  }
}

// Blocks of even size: a few rows would wait for their own sums.
template <class Dot, bool fetch>
inline void rows_in_order(const LinesInOrder& in, Steps steps) noexcept {
  using Block = void (*)(const LinesInOrder&, std::int64_t, Steps) noexcept;
  static constexpr Block kBlocks[kBlockRows] = {
      block_in_order<Dot, 1, fetch>,  block_in_order<Dot, 2, fetch>,
      block_in_order<Dot, 3, fetch>,  block_in_order<Dot, 4, fetch>,
      block_in_order<Dot, 5, fetch>,  block_in_order<Dot, 6, fetch>,
      block_in_order<Dot, 7, fetch>,  block_in_order<Dot, 8, fetch>,
      block_in_order<Dot, 9, fetch>,  block_in_order<Dot, 10, fetch>,
      block_in_order<Dot, 11, fetch>, block_in_order<Dot, 12, fetch>};
  for (std::int64_t row = 0; row < in.rows;) {
    const std::int64_t blocks = (in.rows - row + kBlockRows - 1) / kBlockRows;
    const std::int64_t rows = (in.rows - row + blocks - 1) / blocks;
    kBlocks[rows - 1](in, row, steps);
    row += rows;
  }
}

template <class Dot>
inline void multiply_in_order(const LinesInOrder& in) noexcept {
  if (in.rows <= kPlainRows) return rows_in_order<Dot, false>(in, {0, in.steps});
  const std::int64_t pass = in.rows <= kBlockRows || in.rows > kPassRows ? in.steps : kPassSteps;
  for (std::int64_t step = 0; step < in.steps; step += pass) {
    const std::int64_t left = in.steps - step;
    rows_in_order<Dot, true>(in, {step, step + (left < pass ? left : pass)});
  }
}

}  // namespace
}  // namespace switchyard::gemm
