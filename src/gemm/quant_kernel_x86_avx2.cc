#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"

// Without VNNI: vpmaddubsw multiplies unsigned with signed bytes and adds pairs in 16 bits, without
// loss for codes below 16: 2 * 15 * 127 = 3810, and 8 of those still fit. So sums stay in 16 bits
// over 32 of depth and are widened once. 8-bit codes are taken as two halves, the upper one
// weighing 16, which its widening multiplies with.
//
// Columns go by quarters of a stripe (8 in a register of 32 codes), 4 rows at a time: int8 needs 8
// sums of 16 bits and 4 of 32, and 2 registers of codes.
//
// int8 takes all quarters of 64 of depth before the next, their sums in acc meanwhile: codes are
// then read in the order they lie in, and where memory likes that best (CpuFeatures::
// reads_in_order) that is all the fetching they need. Zen 4, olmoe at T = 1, 4, 16, of the time of
// one quarter after the other over the whole depth: 0.33 to 0.41, 0.40 to 0.58, 0.40 to 0.51. int4,
// whose groups are short, took 1.1 to 1.2 times as long so.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kRun = 32;  // depth that 16 bits hold

inline __m256i four_of_depth(const std::int8_t* a) noexcept {
  std::int32_t word;
  __builtin_memcpy(&word, a, sizeof word);
  return _mm256_set1_epi32(word);
}

inline __m256i load(const std::byte* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

inline __m256i widen(__m256i sums16, short weight) noexcept {
  return _mm256_madd_epi16(sums16, _mm256_set1_epi16(weight));
}

template <int rows>
inline void int4_quarter(const QuantArgs& q, std::int64_t row, int quarter) noexcept {
  const auto* a = q.panel + row * q.panel_stride;
  float* acc = q.acc + row * kStripeColumns + quarter * 8;
  const Int4Stripe parts(q);
  const std::byte* lines = q.stripe + parts.codes;
  const std::byte* scales = q.stripe + parts.scales;
  const std::byte* zeros = q.stripe + parts.zeros;
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256 total[rows];
  for (int r = 0; r < rows; ++r) {
    total[r] = q.k_begin > 0 ? _mm256_load_ps(acc + r * 32) : _mm256_setzero_ps();
  }
  for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
    const std::int64_t g = k / q.group;
    __m256i zero = _mm256_set1_epi32(kZeroOfInt4);
    if (q.zero_points) {
      zero = _mm256_cvtepu8_epi32(
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros + g * 32 + quarter * 8)));
    }
    __m256i sum[rows];
    for (int r = 0; r < rows; ++r) {
      sum[r] =
          _mm256_mullo_epi32(zero, _mm256_set1_epi32(q.row_sums[(row + r) * q.sums_stride + g]));
    }
    for (std::int64_t run = k; run < k + q.group; run += kRun) {
      __m256i sum16[rows];
      for (int r = 0; r < rows; ++r) sum16[r] = _mm256_setzero_si256();
      for (std::int64_t i = run; i < run + kRun; i += 8) {
        const __m256i codes = load(lines + i * 16 + quarter * 32);
        const __m256i first = _mm256_and_si256(codes, low_half);
        const __m256i second = _mm256_and_si256(_mm256_srli_epi16(codes, 4), low_half);
        for (int r = 0; r < rows; ++r) {
          const std::int8_t* x = a + r * q.panel_stride + i;
          const __m256i products =
              _mm256_add_epi16(_mm256_maddubs_epi16(first, four_of_depth(x)),
                               _mm256_maddubs_epi16(second, four_of_depth(x + 4)));
          sum16[r] = _mm256_add_epi16(sum16[r], products);
        }
      }
      for (int r = 0; r < rows; ++r) sum[r] = _mm256_add_epi32(sum[r], widen(sum16[r], 1));
    }
    const __m256 scale = _mm256_cvtph_ps(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + (g * 32 + quarter * 8) * 2)));
    for (int r = 0; r < rows; ++r) {
      total[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r]), scale, total[r]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    const __m256 t = _mm256_set1_ps(q.row_scale[row + r]);
    _mm256_store_ps(acc + r * 32, q.k_end < q.depth ? total[r] : _mm256_mul_ps(total[r], t));
  }
}

template <int rows>
inline void int8_quarter(const QuantArgs& q, std::int64_t row, std::int64_t k,
                         int quarter) noexcept {
  const auto* a = q.panel + row * q.panel_stride;
  float* acc = q.acc + row * kStripeColumns + quarter * 8;
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i sum[rows];
  for (int r = 0; r < rows; ++r) {
    const auto* before = reinterpret_cast<const std::byte*>(acc + r * 32);
    sum[r] = k > 0 ? load(before) : _mm256_setzero_si256();
  }
  for (std::int64_t run = k; run < k + kQuantDepthUnit; run += kRun) {
    const std::byte* codes =
        q.stripe + k * kStripeColumns + quarter / 2 * 1024 + (run - k) * 16 + quarter % 2 * 32;
    __m256i low16[rows], high16[rows];
    for (int r = 0; r < rows; ++r) low16[r] = high16[r] = _mm256_setzero_si256();
    for (std::int64_t i = 0; i < kRun; i += 4) {
      const __m256i both = load(codes + i * 16);
      const __m256i low = _mm256_and_si256(both, low_half);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half);
      for (int r = 0; r < rows; ++r) {
        const __m256i x = four_of_depth(a + r * q.panel_stride + run + i);
        low16[r] = _mm256_add_epi16(low16[r], _mm256_maddubs_epi16(low, x));
        high16[r] = _mm256_add_epi16(high16[r], _mm256_maddubs_epi16(high, x));
      }
    }
    for (int r = 0; r < rows; ++r) {
      sum[r] = _mm256_add_epi32(sum[r], _mm256_add_epi32(widen(low16[r], 1), widen(high16[r], 16)));
    }
  }
  for (int r = 0; r < rows; ++r) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(acc + r * 32), sum[r]);
  }
}

// A step of four rows at most: all quarters of the columns.
template <int rows>
inline void int8_step(const QuantArgs& q, std::int64_t row, std::int64_t k) noexcept {
  for (int quarter = 0; quarter < 4; ++quarter) int8_quarter<rows>(q, row, k, quarter);
}

// acc = scales (sum - z sum of a)
inline void scale_int8(const QuantArgs& q) noexcept {
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const __m256i zero = _mm256_set1_epi32(kZeroOfInt8 * q.row_sums[r * q.sums_stride]);
    for (int j = 0; j < kStripeColumns; j += 8) {
      float* acc = q.acc + r * kStripeColumns + j;
      const __m256i sum = load(reinterpret_cast<const std::byte*>(acc));
      const __m256 scale =
          _mm256_mul_ps(_mm256_loadu_ps(scales + j), _mm256_set1_ps(q.row_scale[r]));
      _mm256_store_ps(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(sum, zero)), scale));
    }
  }
}

}  // namespace

void quant_int4_avx2(const QuantArgs& q) noexcept {
  using Quarter = void (*)(const QuantArgs&, std::int64_t row, int quarter) noexcept;
  static constexpr Quarter kBlock[4] = {int4_quarter<1>, int4_quarter<2>, int4_quarter<3>,
                                        int4_quarter<4>};
  Prefetcher prefetcher(q.prefetch, (q.rows + 3) / 4 * 4);
  for (std::int64_t r = 0; r < q.rows; r += 4) {
    const std::int64_t rows = q.rows - r < 4 ? q.rows - r : 4;
    for (int quarter = 0; quarter < 4; ++quarter) {
      prefetcher.step();
      kBlock[rows - 1](q, r, quarter);
    }
  }
}

void quant_int8_avx2(const QuantArgs& q) noexcept {
  using Step = void (*)(const QuantArgs&, std::int64_t row, std::int64_t k) noexcept;
  static constexpr Step kSteps[4] = {int8_step<1>, int8_step<2>, int8_step<3>, int8_step<4>};
  const std::int64_t steps = (q.k_end - q.k_begin) / kQuantDepthUnit;
  Prefetcher prefetcher(q.in_order ? PrefetchPairs{} : q.prefetch, (q.rows + 3) / 4 * steps);
  for (std::int64_t r = 0; r < q.rows; r += 4) {
    const Step step = kSteps[(q.rows - r < 4 ? q.rows - r : 4) - 1];
    for (std::int64_t k = q.k_begin; k < q.k_end; k += kQuantDepthUnit) {
      prefetcher.step();
      step(q, r, k);
    }
  }
  if (q.k_end == q.depth) scale_int8(q);
}

}  // namespace switchyard::gemm
