#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// vpdpbusd multiplies 64 unsigned codes with 64 signed activations: 16 columns, 4 of depth. (Every
// CPU with AVX-512 BF16 has VNNI.) One line of codes takes 3 instructions to halve into bytes, a
// row 2 products of it and, once a group, one for its zero points and 3 to fold the sums into f32.
//
// Up to 10 rows: eight stripes are eight streams, which memory serves best and whose sums do not
// wait for each other. Lines are fetched into L1 one of each stream in turn, 2 KiB ahead in each,
// and their scales as far ahead. From three rows on eight stripes leave too few registers, and four
// go together, 4 rows at a time. One core, depth 2048, groups of 32, us a stripe of 36 KiB, which a
// plain reader of eight streams takes 1.94 for:
//
//   rows                                               1      2      3      4
//   in L2, one                                         1.28   1.46   1.78   2.1
//     four                                             0.73   0.94   1.22   2.1
//     eight                                            0.76   1.01   1.56   2.6
//   in memory, one, the next ones fetched into L2      2.20   2.19   2.54   3.59
//     eight, not fetched ahead                         as one
//     four, fetched into L1                            1.84   2.01   2.23   2.77
//     eight, fetched into L1                           1.79   1.99   2.31   3.4
//
// Fetched into L2 alone, or by pairs of lines, they take 1.1 to 1.3 times as long. From four rows
// on tiles are faster (quant_int4_few_x86_amx_bf16.cc).
//
// More rows, or fewer stripes: one stripe, 4 rows at a time, 8 integer and 8 f32 accumulators of
// the 32 registers; each of the low and high halves of the codes has accumulators of its own, since
// one chain of 8 products would wait 40 cycles.

namespace switchyard::gemm {
namespace {

constexpr int kBlockRows = 4;
constexpr std::int64_t kStep = 32;    // depth between fetches, a few lines each: bursts wait
constexpr std::int64_t kAhead = 128;  // depth by which streams are fetched ahead
constexpr std::int64_t kLine = 64;

inline __m512i four_of_depth(const std::int8_t* a) noexcept {
  std::int32_t word;
  __builtin_memcpy(&word, a, sizeof word);
  return _mm512_set1_epi32(word);
}

// Where the parts of a stripe begin.
struct Parts {
  std::int64_t scales, zeros;

  explicit Parts(const QuantArgs& q) noexcept
      : scales(q.depth * kStripeColumns / 2),
        zeros(scales + q.depth / q.group * kStripeColumns * 2) {}
};

inline __m512 scale_of(const std::byte* scales, std::int64_t g, int h) noexcept {
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + (g * 32 + h * 16) * 2)));
}

inline __m512i zero_of(const QuantArgs& q, const std::byte* zeros, std::int64_t g, int h) noexcept {
  if (!q.zero_points) return _mm512_set1_epi32(kZeroOfInt4);
  return _mm512_cvtepu8_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros + g * 32 + h * 16)));
}

// Minus what zero points add to the sums of a group: 16-bit products, since both factors fit and
// the upper halves of `zero` are 0.
inline __m512i begin_sum(__m512i zero, std::int32_t negated_sum) noexcept {
  return _mm512_dpwssd_epi32(_mm512_setzero_si512(), zero, _mm512_set1_epi32(negated_sum));
}

// The lines of the streams that belong to kAhead of depth further on; beyond the end of the depth
// those of the stripes that follow, and without such the present ones, which costs nothing.
class LinesAhead {
 public:
  LinesAhead(const QuantArgs& q, std::int64_t k) noexcept : stripe_bytes_(q.stripe_bytes) {
    const bool is_here = k + kAhead < q.depth;
    const bool has_none = !is_here && q.next == nullptr;
    const std::byte* stripe = is_here || has_none ? q.stripe : q.next;
    const std::int64_t at = has_none ? k : is_here ? k + kAhead : k + kAhead - q.depth;
    const Parts parts(q);
    codes_ = stripe + at * 16;
    scales_ = stripe + parts.scales + at / q.group * kLine;
    zeros_ = q.zero_points ? stripe + parts.zeros + at / q.group * kLine / 2 : nullptr;
  }

  inline void fetch_scales(int s) const noexcept {
    __builtin_prefetch(scales_ + s * stripe_bytes_, 0, 3);
    if (zeros_ != nullptr) __builtin_prefetch(zeros_ + s * stripe_bytes_, 0, 3);
  }
  inline void fetch_codes(int s) const noexcept {
    __builtin_prefetch(codes_ + s * stripe_bytes_, 0, 3);
  }
  inline void advance() noexcept { codes_ += kLine; }

 private:
  std::int64_t stripe_bytes_;
  const std::byte* codes_;
  const std::byte* scales_;
  const std::byte* zeros_;
};

// One group of kStripes stripes, column half h.
template <int kRows, int kStripes>
inline void group_of_streams(const QuantArgs& q, std::int64_t row, std::int64_t k, int h,
                             LinesAhead& ahead) noexcept {
  const Parts parts(q);
  const std::int64_t g = k / q.group;
  const __m512i low_half = _mm512_set1_epi8(15);
  const std::int8_t* a = q.panel + row * q.panel_stride;
  const std::int32_t* sums = q.row_sums + row * q.sums_stride + g;
  __m512i sum[kStripes][kRows];
#pragma GCC unroll 8
  for (int s = 0; s < kStripes; ++s) {
    const __m512i zero = zero_of(q, q.stripe + s * q.stripe_bytes + parts.zeros, g, h);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sum[s][r] = begin_sum(zero, sums[r * q.sums_stride]);
  }
  for (std::int64_t i = k; i < k + q.group; i += 8, ahead.advance()) {
    const std::byte* line = q.stripe + i * 16 + h * kLine;
#pragma GCC unroll 8
    for (int s = 0; s < kStripes; ++s) {
      const __m512i codes = _mm512_loadu_si512(line + s * q.stripe_bytes);
      ahead.fetch_codes(s);
      const __m512i first = _mm512_and_si512(codes, low_half);
      const __m512i second = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_half);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const std::int8_t* x = a + r * q.panel_stride + i;
        sum[s][r] = _mm512_dpbusd_epi32(sum[s][r], first, four_of_depth(x));
        sum[s][r] = _mm512_dpbusd_epi32(sum[s][r], second, four_of_depth(x + 4));
      }
    }
  }
#pragma GCC unroll 8
  for (int s = 0; s < kStripes; ++s) {
    const __m512 scale = scale_of(q.stripe + s * q.stripe_bytes + parts.scales, g, h);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      float* acc = q.acc + s * q.stripe_acc + (row + r) * kStripeColumns + h * 16;
      const __m512 before = k > 0 ? _mm512_load_ps(acc) : _mm512_setzero_ps();
      _mm512_store_ps(acc, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[s][r]), scale, before));
    }
  }
}

template <int kRows, int kStripes>
inline void int4_streams(const QuantArgs& q, std::int64_t row) noexcept {
  for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
    LinesAhead ahead(q, k);
    for (int s = 0; s < kStripes; ++s) ahead.fetch_scales(s);
    group_of_streams<kRows, kStripes>(q, row, k, 0, ahead);
    group_of_streams<kRows, kStripes>(q, row, k, 1, ahead);
  }
  if (q.k_end < q.depth) return;
  for (int s = 0; s < kStripes; ++s) {
    for (std::int64_t r = row; r < row + kRows; ++r) {
      float* acc = q.acc + s * q.stripe_acc + r * kStripeColumns;
      const __m512 t = _mm512_set1_ps(q.row_scale[r]);
      _mm512_store_ps(acc, _mm512_mul_ps(_mm512_load_ps(acc), t));
      _mm512_store_ps(acc + 16, _mm512_mul_ps(_mm512_load_ps(acc + 16), t));
    }
  }
}

template <int rows>
inline void int4_rows(const QuantArgs& q, std::int64_t row, Prefetcher& prefetcher) noexcept {
  const auto* a = q.panel + row * q.panel_stride;
  const std::int32_t* sums = q.row_sums + row * q.sums_stride;
  float* acc = q.acc + row * kStripeColumns;
  const Parts parts(q);
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
      const __m512i zero = zero_of(q, q.stripe + parts.zeros, g, h);
      __m512i low[rows], high[rows];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        low[r] = begin_sum(zero, sums[r * q.sums_stride + g]);
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
        if (i % kStep == kStep - 8) prefetcher.step();
      }
      const __m512 scale = scale_of(q.stripe + parts.scales, g, h);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(low[r], high[r]));
        total[r][h] = _mm512_fmadd_ps(sum, scale, total[r][h]);
      }
    }
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

// Up to 8 or 4 stripes of q's, 4 rows at a time. Returns how many.
inline std::int64_t some_stripes(const QuantArgs& q) noexcept {
  if (q.stripes >= 8 && q.rows <= 2) {
    q.rows == 1 ? int4_streams<1, 8>(q, 0) : int4_streams<2, 8>(q, 0);
    return 8;
  }
  if (q.stripes >= 4) {
    using Block = void (*)(const QuantArgs&, std::int64_t) noexcept;
    static constexpr Block kBlock[kBlockRows] = {int4_streams<1, 4>, int4_streams<2, 4>,
                                                 int4_streams<3, 4>, int4_streams<4, 4>};
    for (std::int64_t r = 0; r < q.rows; r += kBlockRows) {
      kBlock[(q.rows - r < kBlockRows ? q.rows - r : kBlockRows) - 1](q, r);
    }
    return 4;
  }
  const std::int64_t blocks = (q.rows + kBlockRows - 1) / kBlockRows;
  Prefetcher prefetcher(q.prefetch, blocks * ((q.k_end - q.k_begin) / kStep) * 2);
  using Block = void (*)(const QuantArgs&, std::int64_t, Prefetcher&) noexcept;
  static constexpr Block kBlock[kBlockRows] = {int4_rows<1>, int4_rows<2>, int4_rows<3>,
                                               int4_rows<4>};
  for (std::int64_t r = 0; r < q.rows; r += kBlockRows) {
    kBlock[(q.rows - r < kBlockRows ? q.rows - r : kBlockRows) - 1](q, r, prefetcher);
  }
  return 1;
}

}  // namespace

void quant_int4_avx512_bf16(const QuantArgs& q) noexcept {
  QuantArgs left = q;
  while (left.stripes > 0) {
    QuantArgs some = left;
    const std::int64_t most = q.rows <= 2 ? 8 : 4;
    if (left.stripes > most) some.next = left.stripe + most * left.stripe_bytes;
    const std::int64_t done = some_stripes(some);
    left.stripe += done * left.stripe_bytes;
    left.acc += done * left.stripe_acc;
    left.stripes -= done;
  }
}

}  // namespace switchyard::gemm
