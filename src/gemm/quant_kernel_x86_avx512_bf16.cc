#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_int8_scale.h"
#include "gemm/quant_kernel.h"

// vpdpbusd multiplies 64 unsigned codes with 64 signed activations: 16 columns, 4 of depth. (Every
// CPU with AVX-512 BF16 has VNNI.)
//
// int8, up to 12 rows: 24 accumulators, 2 vectors of codes; a row costs 2 products for 128 bytes.
//
// int8, up to 6 rows: memory is the limit, and is read fastest as a plain reader does it, by loads
// of a line each from 8 long streams in turn, which the hardware's own prefetchers follow: 4
// stripes, each in 2 halves of the depth. One row, of what a plain read gives: 0.97; 2 halves of 2
// stripes 0.92; one stripe in 8, 4, 2 parts 0.90, 0.91, 0.73; one stripe at a time with the next
// one prefetched 0.87 (AMX 0.83). 2, 4, 6 rows: 0.93, 0.90, 0.86. Each load also asks for the line
// 1 KiB ahead of it: olmoe at T = 1, 16 in 0.98 and 0.95 of the time (2 KiB 0.99, 0.96, 4 KiB 0.99,
// 0.97).

namespace switchyard::gemm {
namespace {

constexpr int kInt8Rows = 12;
constexpr int kStreams = 8;
constexpr std::int64_t kAhead = 1024;

inline __m512i four_of_depth(const std::int8_t* a) noexcept {
  std::int32_t word;
  __builtin_memcpy(&word, a, sizeof word);
  return _mm512_set1_epi32(word);
}

// Products of the tile of depth [k, k + 64) and column half h, of each stripe and of each of
// kParts parts of the depth, line by line in turn.
template <int kRows, int kStripes, int kParts>
inline void int8_tile(const QuantArgs& q, std::int64_t k, int h, std::int64_t part) noexcept {
  const std::byte* weights = q.stripe + k * kStripeColumns + h * 1024;
  const std::int8_t* a = q.panel + k;
  float* acc = q.acc + h * 16;
  __m512i sum[kStripes][kRows];
#pragma GCC unroll 4
  for (int s = 0; s < kStripes; ++s) {
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) sum[s][r] = _mm512_load_si512(acc + s * q.stripe_acc + r * 32);
  }
  for (std::int64_t i = 0; i < kQuantDepthUnit; i += 4) {
#pragma GCC unroll 8
    for (int p = 0; p < kParts; ++p) {
#pragma GCC unroll 4
      for (int s = 0; s < kStripes; ++s) {
        const std::byte* line = weights + s * q.stripe_bytes + p * part * kStripeColumns + i * 16;
        __builtin_prefetch(line + kAhead, 0, 3);
        const __m512i codes = _mm512_loadu_si512(line);
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m512i x = four_of_depth(a + r * q.panel_stride + p * part + i);
          sum[s][r] = _mm512_dpbusd_epi32(sum[s][r], codes, x);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStripes; ++s) {
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) _mm512_store_si512(acc + s * q.stripe_acc + r * 32, sum[s][r]);
  }
}

template <int kRows, int kStripes>
inline void int8_streams(const QuantArgs& q) noexcept {
  constexpr int kParts = kStreams / kStripes;
  const std::int64_t part = (q.k_end - q.k_begin) / (kParts * kQuantDepthUnit) * kQuantDepthUnit;
  if (q.k_begin == 0) {
    for (int s = 0; s < kStripes; ++s) {
      for (int i = 0; i < kRows * 32; i += 16) {
        _mm512_store_ps(q.acc + s * q.stripe_acc + i, _mm512_setzero_ps());
      }
    }
  }
  for (std::int64_t k = q.k_begin; k < q.k_begin + part; k += kQuantDepthUnit) {
    for (int h = 0; h < 2; ++h) int8_tile<kRows, kStripes, kParts>(q, k, h, part);
  }
  for (std::int64_t k = q.k_begin + kParts * part; k < q.k_end; k += kQuantDepthUnit) {
    for (int h = 0; h < 2; ++h) int8_tile<kRows, kStripes, 1>(q, k, h, 0);
  }
  if (q.k_end < q.depth) return;
  for (int s = 0; s < kStripes; ++s) {
    for (int r = 0; r < kRows; ++r) {
      for (int h = 0; h < 2; ++h) {
        float* acc = q.acc + s * q.stripe_acc + r * kStripeColumns + h * 16;
        store_scaled(q, q.stripe + s * q.stripe_bytes, r, h, _mm512_load_si512(acc), acc);
      }
    }
  }
}

template <int rows>
inline void int8_rows(const QuantArgs& q, std::int64_t row, Prefetcher& prefetcher) noexcept {
  const auto* a = q.panel + row * q.panel_stride;
  float* acc = q.acc + row * kStripeColumns;
  __m512i sum[rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    for (int h = 0; h < 2; ++h) {
      sum[r][h] = q.k_begin > 0 ? _mm512_load_si512(acc + r * 32 + h * 16) : _mm512_setzero_si512();
    }
  }
  for (std::int64_t k = q.k_begin; k < q.k_end; k += kQuantDepthUnit) {
    const std::byte* codes = q.stripe + k * kStripeColumns;
    for (std::int64_t i = 0; i < kQuantDepthUnit; i += 4) {
      const __m512i first = _mm512_loadu_si512(codes + i * 16);
      const __m512i second = _mm512_loadu_si512(codes + 1024 + i * 16);
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        const __m512i x = four_of_depth(a + r * q.panel_stride + k + i);
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], first, x);
        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], second, x);
      }
    }
    prefetcher.step();
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

inline void int8_few_rows(const QuantArgs& q) noexcept {
  using Streams = void (*)(const QuantArgs&) noexcept;
  static constexpr Streams kFour[kInt8StreamRows] = {int8_streams<1, 4>, int8_streams<2, 4>,
                                                     int8_streams<3, 4>, int8_streams<4, 4>,
                                                     int8_streams<5, 4>, int8_streams<6, 4>};
  static constexpr Streams kOne[kInt8StreamRows] = {int8_streams<1, 1>, int8_streams<2, 1>,
                                                    int8_streams<3, 1>, int8_streams<4, 1>,
                                                    int8_streams<5, 1>, int8_streams<6, 1>};
  if (q.stripes == 4) return kFour[q.rows - 1](q);
  QuantArgs one = q;
  for (std::int64_t s = 0; s < q.stripes; ++s) {
    kOne[q.rows - 1](one);
    one.stripe += q.stripe_bytes;
    one.acc += q.stripe_acc;
  }
}

}  // namespace

void quant_int8_avx512_bf16(const QuantArgs& q) noexcept {
  if (q.in_order) return quant_int8_in_order_avx512_bf16(q);
  if (q.rows <= kInt8StreamRows) return int8_few_rows(q);
  using Block = void (*)(const QuantArgs&, std::int64_t, Prefetcher&) noexcept;
  static constexpr Block kBlock[kInt8Rows] = {
      int8_rows<1>, int8_rows<2>, int8_rows<3>, int8_rows<4>,  int8_rows<5>,  int8_rows<6>,
      int8_rows<7>, int8_rows<8>, int8_rows<9>, int8_rows<10>, int8_rows<11>, int8_rows<12>};
  const std::int64_t blocks = (q.rows + kInt8Rows - 1) / kInt8Rows;
  Prefetcher prefetcher(q.prefetch, blocks * ((q.k_end - q.k_begin) / kQuantDepthUnit));
  for (std::int64_t r = 0; r < q.rows; r += kInt8Rows) {
    const std::int64_t rows = q.rows - r < kInt8Rows ? q.rows - r : kInt8Rows;
    kBlock[rows - 1](q, r, prefetcher);
  }
}

}  // namespace switchyard::gemm
