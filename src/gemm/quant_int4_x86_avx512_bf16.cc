#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_int4_stripe.h"
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
// More rows, or fewer stripes: one stripe, 6 rows at a time, 12 integer and 12 f32 accumulators of
// the 32 registers; both halves of a line's columns share a row's broadcast. Zen 4, from L2, of
// doing 4 rows with twice the accumulators: 0.9 with groups of 32, 0.97 of 128 (0.82 and 0.93 of
// the peak; a fold's multiplication takes the place of a product, so 0.89 is the limit of 32).
//
// Where memory is read best in one stream (CpuFeatures::reads_in_order) also up to 10 rows: one or
// two take a stripe as it lies, scales first, and fetch only the beginning of the next one, more
// fetch it all into L2. Zen 4, of a plain read, depth 2048, groups of 32, one thread (as two do
// where they read 60 GB/s) and two where they read 32:
//
//   rows                          1            2            3            4            6
//   eight and four streams        0.55  0.77   0.54  0.76                0.56  0.84   0.41  0.65
//   next stripe fetched           0.77  0.87   0.78  0.89   0.88  0.90   0.83  0.91   0.61  0.91
//   as it lies                    0.96  0.97   0.90  0.93   0.80  0.86   0.68  0.80   0.47  0.63
//     scales when they are used   0.64  0.77   0.54  0.73   0.46  0.66   0.45  0.64   0.40  0.56
//
// With 5 and 6 rows products take longer than reading. Where scales are used before they were read
// the hardware's prefetchers lose the stream, 400 ns; with scales after the codes, as it lies 0.69,
// 0.61, 0.53, 0.50, 0.42; with those of a group beside its codes no better than first. The
// beginning of the next stripe fetched before this one's rows are finished: 0.96 to 0.99 of the
// time of whole experts. Eight streams of stripes a multiple of 4 KiB apart meet in one set of its
// L1 of 8 ways. The next stripe loaded in the place of prefetched 0.67 to 0.41, by pairs of lines
// 0.68 to 0.44; 4 to 16 KiB ahead, lines into L1 4 to 32 before, as it is or less.

namespace switchyard::gemm {
namespace {

constexpr int kBlockRows = 6, kStreamRows = 4;
constexpr std::int64_t kStep = 16;    // depth between fetches, a few lines each: bursts wait
constexpr std::int64_t kAhead = 128;  // depth by which streams are fetched ahead
constexpr std::int64_t kLine = 64;

inline __m512i four_of_depth(const std::int8_t* a) noexcept {
  std::int32_t word;
  __builtin_memcpy(&word, a, sizeof word);
  return _mm512_set1_epi32(word);
}

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
    const Int4Stripe parts(q);
    codes_ = stripe + parts.codes + at * 16;
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
  const Int4Stripe parts(q);
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
    const std::byte* line = q.stripe + parts.codes + i * 16 + h * kLine;
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

// What is fetched beside a block of rows: the caller's part of the next stripes, spread evenly, ...
class Spread {
 public:
  explicit Spread(Prefetcher& prefetcher) noexcept : prefetcher_(prefetcher) {}
  inline void group() noexcept {}
  inline void lines(const std::byte*, std::int64_t i) noexcept {
    if (i % kStep == kStep - 8) prefetcher_.step();
  }

 private:
  Prefetcher& prefetcher_;
};

// ... or the next stripe into L2. Codes come from L2 into L1 eight lines before their use.
class NextStripe {
 public:
  explicit NextStripe(const QuantArgs& q) noexcept : next_(q) {}
  inline void group() noexcept { next_.group(); }
  inline void lines(const std::byte* codes, std::int64_t) noexcept {
    for (int i = 0; i < 2; ++i) {
      __builtin_prefetch(next_.line(), 0, 2);
      __builtin_prefetch(codes + (8 + i) * kLine, 0, 3);
    }
  }

 private:
  NextInt4Stripe next_;
};

// ... or nothing.
struct Nothing {
  inline void group() noexcept {}
  inline void lines(const std::byte*, std::int64_t) noexcept {}
};

// Minus what zero points add to a group's sums, of both halves of the columns.
template <int kRows, bool kZeroPoints>
inline void begin_sums(const std::int32_t* sums, std::int64_t stride, const std::byte* zeros,
                       __m512i (&sum)[kRows][2]) noexcept {
  const auto* points = reinterpret_cast<const __m128i*>(zeros);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const std::int32_t s = sums[r * stride];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      if (kZeroPoints) {
        const __m512i zero = _mm512_cvtepu8_epi32(_mm_loadu_si128(points + h));
        sum[r][h] = _mm512_madd_epi16(zero, _mm512_set1_epi32(s));
      } else {
        sum[r][h] = _mm512_set1_epi32(kZeroOfInt4 * s);
      }
    }
  }
}

// Products of 8 of depth: a line of codes of each half of the columns.
template <int kRows>
inline void two_lines(const std::byte* codes, const std::int8_t* a, std::int64_t stride,
                      __m512i (&sum)[kRows][2]) noexcept {
  const __m512i low_half = _mm512_set1_epi8(15);
  const __m512i first = _mm512_loadu_si512(codes), second = _mm512_loadu_si512(codes + kLine);
  const __m512i low[2] = {_mm512_and_si512(first, low_half), _mm512_and_si512(second, low_half)};
  const __m512i high[2] = {_mm512_and_si512(_mm512_srli_epi16(first, 4), low_half),
                           _mm512_and_si512(_mm512_srli_epi16(second, 4), low_half)};
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const __m512i x = four_of_depth(a + r * stride);
    sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], low[0], x);
    sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], low[1], x);
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const __m512i x = four_of_depth(a + r * stride + 4);
    sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], high[0], x);
    sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], high[1], x);
  }
}

template <int kRows, bool kZeroPoints, class Ahead>
inline void int4_rows(const QuantArgs& q, std::int64_t row, Ahead ahead) noexcept {
  const std::int8_t* a = q.panel + row * q.panel_stride;
  const std::int32_t* sums = q.row_sums + row * q.sums_stride + q.k_begin / q.group;
  float* acc = q.acc + row * kStripeColumns;
  const Int4Stripe parts(q);
  const std::byte* codes = q.stripe + parts.codes + q.k_begin * 16;
  const std::byte* scales = q.stripe + parts.scales + q.k_begin / q.group * kLine;
  const std::byte* zeros = q.stripe + parts.zeros + q.k_begin / q.group * (kLine / 2);
  __m512 total[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    for (int h = 0; h < 2; ++h) {
      total[r][h] = q.k_begin > 0 ? _mm512_load_ps(acc + r * 32 + h * 16) : _mm512_setzero_ps();
    }
  }
  for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
    __m512i sum[kRows][2];
    begin_sums<kRows, kZeroPoints>(sums, q.sums_stride, zeros, sum);
    ahead.group();
    for (std::int64_t i = k; i < k + q.group; i += 8, codes += 2 * kLine) {
      ahead.lines(codes, i);
      two_lines<kRows>(codes, a + i, q.panel_stride, sum);
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512 scale = scale_of(scales, 0, h);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        total[r][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][h]), scale, total[r][h]);
      }
    }
    ++sums, scales += kLine, zeros += kLine / 2;
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const __m512 t = _mm512_set1_ps(q.row_scale[row + r]);
    for (int h = 0; h < 2; ++h) {
      const __m512 out = q.k_end < q.depth ? total[r][h] : _mm512_mul_ps(total[r][h], t);
      _mm512_store_ps(acc + r * 32 + h * 16, out);
    }
  }
}

template <bool kZeroPoints, class Ahead>
inline void int4_block(const QuantArgs& q, std::int64_t row, std::int64_t rows,
                       Ahead ahead) noexcept {
  using Block = void (*)(const QuantArgs&, std::int64_t, Ahead) noexcept;
  static constexpr Block kBlock[kBlockRows] = {
      int4_rows<1, kZeroPoints, Ahead>, int4_rows<2, kZeroPoints, Ahead>,
      int4_rows<3, kZeroPoints, Ahead>, int4_rows<4, kZeroPoints, Ahead>,
      int4_rows<5, kZeroPoints, Ahead>, int4_rows<6, kZeroPoints, Ahead>};
  kBlock[rows - 1](q, row, ahead);
}

// One or two rows of a stripe in the order it lies in, which the hardware's prefetchers follow.
template <bool kZeroPoints>
inline void stripe_as_it_lies(const QuantArgs& q) noexcept {
  load_scales(q);
  q.rows == 1 ? int4_rows<1, kZeroPoints>(q, 0, Nothing{})
              : int4_rows<2, kZeroPoints>(q, 0, Nothing{});
  fetch_beginning(q.next);
}

// One stripe, its rows in even blocks.
template <bool kZeroPoints>
inline void one_stripe(const QuantArgs& q) noexcept {
  if (q.in_order && q.rows <= kPlainInt4Rows) return stripe_as_it_lies<kZeroPoints>(q);
  const std::int64_t blocks = (q.rows + kBlockRows - 1) / kBlockRows;
  const std::int64_t step = (q.rows + blocks - 1) / blocks;
  Prefetcher prefetcher(q.in_order ? PrefetchPairs{} : q.prefetch,
                        blocks * ((q.k_end - q.k_begin) / kStep));
  for (std::int64_t r = 0; r < q.rows; r += step) {
    const std::int64_t rows = q.rows - r < step ? q.rows - r : step;
    if (q.in_order && r == 0) {
      int4_block<kZeroPoints>(q, r, rows, NextStripe(q));
    } else {
      int4_block<kZeroPoints>(q, r, rows, Spread(prefetcher));
    }
  }
}

// Up to 8 or 4 stripes of q's, 4 rows at a time, or one. Returns how many.
inline std::int64_t some_stripes(const QuantArgs& q) noexcept {
  if (q.stripes >= 8 && q.rows <= 2) {
    q.rows == 1 ? int4_streams<1, 8>(q, 0) : int4_streams<2, 8>(q, 0);
    return 8;
  }
  if (q.stripes >= 4) {
    using Block = void (*)(const QuantArgs&, std::int64_t) noexcept;
    static constexpr Block kBlock[kStreamRows] = {int4_streams<1, 4>, int4_streams<2, 4>,
                                                  int4_streams<3, 4>, int4_streams<4, 4>};
    for (std::int64_t r = 0; r < q.rows; r += kStreamRows) {
      kBlock[(q.rows - r < kStreamRows ? q.rows - r : kStreamRows) - 1](q, r);
    }
    return 4;
  }
  q.zero_points ? one_stripe<true>(q) : one_stripe<false>(q);
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
