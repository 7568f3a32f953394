#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// vpdpbusd multiplies 64 unsigned codes with 64 signed activations: 16 columns, 4 of depth. (Every
// CPU with AVX-512 BF16 has VNNI.)
//
// int4, R rows, one group of 32: 8 lines of codes take 24 instructions to halve into bytes, a row
// takes 16 products, 2 for its zero points and 4 to fold the group into f32. With one row that is
// some 55 vector instructions on two ports for 576 bytes, 20 bytes a cycle: memory, at 7, is the
// limit up to 4 rows (9 bytes a cycle), and the products beyond. 4 rows hold 8 integer and 8 f32
// accumulators of the 32 registers; each of the low and high halves of the codes has accumulators
// of its own, since one chain of 8 products would wait 40 cycles.
//
// int8, up to 12 rows: 24 accumulators, 2 vectors of codes; a row costs 2 products for 128 bytes.

namespace switchyard::gemm {
namespace {

constexpr int kInt4Rows = 4;
constexpr int kInt8Rows = 12;

inline __m512i four_of_depth(const std::int8_t* a) noexcept {
  std::int32_t word;
  __builtin_memcpy(&word, a, sizeof word);
  return _mm512_set1_epi32(word);
}

template <int rows>
inline void int4_rows(const QuantArgs& q, std::int64_t row, Prefetcher& prefetcher) noexcept {
  const auto* a = q.panel + row * q.panel_stride;
  const std::int32_t* sums = q.row_sums + row * q.sums_stride;
  float* acc = q.acc + row * kStripeColumns;
  const std::byte* scales = q.stripe + q.depth * kStripeColumns / 2;
  const std::byte* zeros = scales + q.depth / q.group * kStripeColumns * 2;
  const __m512i low_half = _mm512_set1_epi8(15);

  __m512 total[rows][2];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    for (int h = 0; h < 2; ++h) {
      total[r][h] = q.k_begin > 0 ? _mm512_load_ps(acc + r * 32 + h * 16) : _mm512_setzero_ps();
    }
  }
  for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
    const std::int64_t g = k / q.group;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m512i zero = _mm512_set1_epi32(kZeroOfInt4);
      if (q.zero_points) {
        zero = _mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros + g * 32 + h * 16)));
      }
      __m512i low[rows], high[rows];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        // 16-bit products: both factors fit, and the upper halves of `zero` are 0.
        low[r] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), zero,
                                     _mm512_set1_epi32(sums[r * q.sums_stride + g]));
        high[r] = _mm512_setzero_si512();
      }
      for (std::int64_t i = k; i < k + q.group; i += 8) {
        const __m512i codes = _mm512_loadu_si512(q.stripe + i * 16 + h * 64);
        const __m512i first = _mm512_and_si512(codes, low_half);
        const __m512i second = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_half);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          const std::int8_t* x = a + r * q.panel_stride + i;
          low[r] = _mm512_dpbusd_epi32(low[r], first, four_of_depth(x));
          high[r] = _mm512_dpbusd_epi32(high[r], second, four_of_depth(x + 4));
        }
      }
      const __m512 scale = _mm512_cvtph_ps(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + (g * 32 + h * 16) * 2)));
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(low[r], high[r]));
        total[r][h] = _mm512_fmadd_ps(sum, scale, total[r][h]);
      }
    }
    prefetcher.step();
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    const __m512 t = _mm512_set1_ps(q.row_scale[row + r]);
    for (int h = 0; h < 2; ++h) {
      const __m512 out = q.k_end < q.depth ? total[r][h] : _mm512_mul_ps(total[r][h], t);
      _mm512_store_ps(acc + r * 32 + h * 16, out);
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
  const bool last = q.k_end == q.depth;
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * q.row_sums[(row + r) * q.sums_stride]);
    const __m512 t = _mm512_set1_ps(q.row_scale[row + r]);
    for (int h = 0; h < 2; ++h) {
      float* out = acc + r * 32 + h * 16;
      if (!last) {
        _mm512_store_si512(out, sum[r][h]);
        continue;
      }
      const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(scales + h * 16), t);
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_add_epi32(sum[r][h], zero));
      _mm512_store_ps(out, _mm512_mul_ps(exact, scale));
    }
  }
}

}  // namespace

void quant_int4_avx512_bf16(const QuantArgs& q) noexcept {
  const std::int64_t blocks = (q.rows + kInt4Rows - 1) / kInt4Rows;
  Prefetcher prefetcher(q.prefetch, blocks * ((q.k_end - q.k_begin) / q.group));
  std::int64_t r = 0;
  for (; r + 4 <= q.rows; r += 4) int4_rows<4>(q, r, prefetcher);
  switch (q.rows - r) {
    case 3: return int4_rows<3>(q, r, prefetcher);
    case 2: return int4_rows<2>(q, r, prefetcher);
    case 1: return int4_rows<1>(q, r, prefetcher);
    default: return;
  }
}

void quant_int8_avx512_bf16(const QuantArgs& q) noexcept {
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
