#include <immintrin.h>

#include "gemm/quant_int8_scale.h"
#include "gemm/quant_kernel.h"

// int8 where memory is read best in one stream (CpuFeatures::reads_in_order): AMD's CPUs.
//
// Registers: 12 rows by 32 columns in 24 accumulators, 1 line of codes, 1 broadcast. A line, 4 of
// depth and 16 columns, takes 12 vpdpbusd, one a cycle on Zen 4: the products are the limit. Rows
// are addressed from every third one.
//
// Codes are read in the order they lie in, first one half of the columns and then the other; from 7
// rows on each line is asked for, into L2, 8 KiB ahead. Of a plain read, one core, depth 2048, and
// two, depth 4096 (beside it as quant_kernel_x86_avx512_bf16.cc reads elsewhere: eight streams up
// to 6 rows, then the next stripe fetched by pairs of lines):
//
//   rows                       1            4            6            8            12
//   one core                   1.1  (0.70)  1.1  (0.62)  0.89 (0.56)  0.83 (0.25)  0.60 (0.26)
//   two                        1.0  (0.75)  0.97 (0.78)  0.96 (0.80)  0.91 (0.36)  0.84 (0.35)
//
// The time of 24, 64 and 480 rows is 0.59, 0.81 and 0.94 of that; from L2 it is 0.96 of the peak's.
// Up to 6 rows, every line asked for 16 KiB ahead 0.72 to 0.78 with one core, every fourth 0.75 to
// 1.0; lines of both halves in turn 0.4; two stripes in turn 0.86 to 0.94.

namespace switchyard::gemm {
namespace {

constexpr int kRows = 12;
constexpr int kLines = 4;  // unrolled
constexpr std::int64_t kLine = 64;
constexpr std::int64_t kPlainRows = 6;  // up to which the hardware's prefetchers do
constexpr std::int64_t kAhead = 4 * kQuantDepthUnit;

// Where the codes lie that are needed kAhead of depth later: in this stripe, in the next one, or
// nowhere, then the present ones, which costs nothing.
inline const std::byte* codes_ahead(const QuantArgs& q, std::int64_t k) noexcept {
  const std::int64_t ahead = k + kAhead, in_next = ahead - q.k_end + q.k_begin;
  if (ahead < q.k_end) return q.stripe + ahead * kStripeColumns;
  if (q.next != nullptr && in_next < q.k_end) return q.next + in_next * kStripeColumns;
  return q.stripe + k * kStripeColumns;
}

template <int rows, bool fetch>
inline void block(const QuantArgs& q, std::int64_t row) noexcept {
  std::int64_t stride = q.panel_stride;
  const std::int8_t* third_row[(rows + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (rows + 2) / 3; ++i) {
    third_row[i] = q.panel + (row + 3 * i) * stride + q.k_begin;
  }
  float* acc = q.acc + row * kStripeColumns;
  __m512i sum[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    for (int h = 0; h < 2; ++h) {
      sum[r][h] = q.k_begin > 0 ? _mm512_load_si512(acc + r * 32 + h * 16) : _mm512_setzero_si512();
    }
  }
  const std::byte* codes = q.stripe + q.k_begin * kStripeColumns;
  for (std::int64_t k = q.k_begin; k < q.k_end; k += kQuantDepthUnit) {
    const std::byte* ahead = fetch ? codes_ahead(q, k) : nullptr;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < kQuantDepthUnit / 4; i += kLines) {
#pragma GCC unroll 4
        for (int u = 0; u < kLines; ++u) {
          __asm__("" : "+r"(stride), "+r"(codes));  // or GCC 12 keeps stride + u for each u
          if (fetch) __builtin_prefetch(ahead + u * kLine, 0, 2);
          const __m512i line = _mm512_loadu_si512(codes + u * kLine);
#pragma GCC unroll 12
          for (int r = 0; r < rows; ++r) {
            std::int32_t x;
            __builtin_memcpy(&x, third_row[r / 3] + r % 3 * stride + 4 * u, sizeof x);
            sum[r][h] = _mm512_dpbusd_epi32(sum[r][h], line, _mm512_set1_epi32(x));
          }
        }
        codes += kLines * kLine;
        if (fetch) ahead += kLines * kLine;
#pragma GCC unroll 4
        for (auto& pointer : third_row) {
          pointer += 4 * kLines;
          __asm__("" : "+r"(pointer));  // or GCC 12 computes each address from one counter
        }
      }
#pragma GCC unroll 4
      for (auto& pointer : third_row) pointer -= h == 0 ? kQuantDepthUnit : 0;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    for (int h = 0; h < 2; ++h) {
      float* out = acc + r * 32 + h * 16;
      if (q.k_end < q.depth) {
        _mm512_store_si512(out, sum[r][h]);
      } else {
        store_scaled(q, q.stripe, row + r, h, sum[r][h], out);
      }
    }
  }
}

// Blocks of even size: a few rows would wait for their own sums.
template <bool fetch>
inline void all_rows(const QuantArgs& q) noexcept {
  using Block = void (*)(const QuantArgs&, std::int64_t) noexcept;
  static constexpr Block kBlocks[kRows] = {block<1, fetch>,  block<2, fetch>,  block<3, fetch>,
                                           block<4, fetch>,  block<5, fetch>,  block<6, fetch>,
                                           block<7, fetch>,  block<8, fetch>,  block<9, fetch>,
                                           block<10, fetch>, block<11, fetch>, block<12, fetch>};
  for (std::int64_t row = 0; row < q.rows;) {
    const std::int64_t blocks = (q.rows - row + kRows - 1) / kRows;
    const std::int64_t rows = (q.rows - row + blocks - 1) / blocks;
    kBlocks[rows - 1](q, row);
    row += rows;
  }
}

}  // namespace

void quant_int8_in_order_avx512_bf16(const QuantArgs& q) noexcept {
  q.rows <= kPlainRows ? all_rows<false>(q) : all_rows<true>(q);
}

}  // namespace switchyard::gemm
