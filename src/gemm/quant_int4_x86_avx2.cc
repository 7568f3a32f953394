#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"

// vpmaddubsw multiplies unsigned with signed bytes and adds pairs in 16 bits, without loss for
// codes below 16: 2 * 15 * 127 = 3810, and 8 of those still fit. So sums stay in 16 bits over 32 of
// depth and are widened once, which also joins the pairs. A line of codes takes 6 instructions to
// halve into bytes, a row 2 for each of its four registers of bytes, and once a group 4 for each
// register of sums.
//
// Registers: 4 rows by 16 columns (a line of codes) in 8 sums of 16 bits, 2 of codes and 2 of their
// halves, 1 broadcast; up to 2 rows by 32 columns in as many sums. A group's lines of the first 16
// columns, then of the others; what they add up to waits in acc, in L1, since there are no
// registers left for it.
//
// GCC 12 must be kept from reordering the additions: it forms all products of 32 of depth first and
// spills them. Zen 4, weights in L2, groups of 32, of the time of that, 8 columns over the whole
// depth before the next: 1, 2, 3, 4, 8 rows 0.57, 0.54, 0.53, 0.55, 0.55; it does some 3 vector
// instructions a cycle, as loops of nothing else do there.
//
// Where memory is read best in order (CpuFeatures::reads_in_order) one or two rows take a stripe as
// it lies, scales first (quant_int4_x86_avx512_bf16.cc), and fetch the beginning of the next one;
// more fetch it all into L2 line by line. Zen 4, depth 2048, groups of 32, of a plain read by two
// threads where they get 35 GB/s, and by one, that gets 32:
//
//   rows                                1           2           3           4           5
//   8 columns over the whole depth      0.59  0.38  0.46  0.30  0.49  0.25  0.40  0.21  0.33  0.18
//   the next stripe fetched             0.88  0.80  0.90  0.76  0.92  0.56  0.82  0.44  0.63  0.35
//   as it lies, 16 columns at a time    0.96  0.91  0.66  0.40
//     32 columns at a time              0.97  0.93  0.92  0.77  0.92  0.59
//
// The last of 3 rows with groups of 128: 0.88 where fetching gets 0.92.

namespace switchyard::gemm {
namespace {

constexpr int kBlockRows = 4;
constexpr std::int64_t kRun = 32;   // depth that 16 bits hold
constexpr std::int64_t kLine = 64;  // bytes: 16 columns, 8 of depth; and the scales of a group
constexpr std::int64_t kRunBytes = kRun * kStripeColumns / 2;

inline __m256i four_of_depth(const std::int8_t* a) noexcept {
  std::int32_t word;
  __builtin_memcpy(&word, a, sizeof word);
  return _mm256_set1_epi32(word);
}

inline __m256i load(const std::byte* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// What is fetched beside a block of rows: the next stripe into L2, ...
class NextStripe {
 public:
  explicit NextStripe(const QuantArgs& q) noexcept : next_(q) {}
  inline void group() noexcept { next_.group(); }
  inline void line() noexcept { __asm__ volatile("prefetcht1 %0" : : "m"(*next_.line())); }

 private:
  NextInt4Stripe next_;
};

// ... the caller's part of the next stripes, spread evenly, ...
class Spread {
 public:
  explicit Spread(Prefetcher& prefetcher) noexcept : prefetcher_(prefetcher) {}
  inline void group() noexcept {}
  inline void line() noexcept { prefetcher_.step(); }

 private:
  Prefetcher& prefetcher_;
};

// ... or nothing.
struct Nothing {
  inline void group() noexcept {}
  inline void line() noexcept {}
};

// Minus what zero points add to a group's sums: as words, since both factors fit and the upper
// halves of the points are 0.
template <int rows, int vectors, bool zero_points>
inline void begin_sums(const std::int32_t* sums, std::int64_t stride, const std::byte* zeros,
                       __m256i (&sum)[rows][vectors]) noexcept {
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const __m256i zero =
        zero_points
            ? _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros + v * 8)))
            : _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const __m256i s = _mm256_set1_epi32(sums[r * stride]);
      static_assert(kZeroOfInt4 == 1 << 3);
      sum[r][v] = zero_points ? _mm256_madd_epi16(zero, s) : _mm256_slli_epi32(s, 3);
    }
  }
}

// Adds the products of 32 of depth.
template <int rows, int vectors, class Ahead>
inline void add_products(const std::byte* codes, const std::int8_t* a, std::int64_t stride,
                         __m256i (&sum)[rows][vectors], Ahead& ahead) noexcept {
  const __m256i low_half = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i sum16[rows][vectors];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i, codes += 2 * kLine) {
#pragma GCC unroll 2
    for (int n = 0; n < 2; ++n) {
      if (n < vectors / 2) ahead.line();
      __m256i u[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        u[v] = _mm256_and_si256(_mm256_srli_epi16(load(codes + v * 32), 4 * n), low_half);
      }
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const __m256i x = four_of_depth(a + r * stride + i * 8 + n * 4);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          const __m256i p = _mm256_maddubs_epi16(u[v], x);
          sum16[r][v] = i + n == 0 ? p : _mm256_add_epi16(sum16[r][v], p);
          __asm__ volatile("" : "+x"(sum16[r][v]));  // see above
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(sum16[r][v], ones));
    }
  }
}

// acc += scales * sums.
template <int rows, int vectors>
inline void fold(const __m256i (&sum)[rows][vectors], const std::byte* scales,
                 float* acc) noexcept {
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const __m256 scale =
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + v * 16)));
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      float* to = acc + r * kStripeColumns + v * 8;
      const __m256 s = _mm256_cvtepi32_ps(sum[r][v]);
      _mm256_store_ps(to, _mm256_fmadd_ps(s, scale, _mm256_load_ps(to)));
    }
  }
}

template <int rows, bool zero_points, class Ahead>
inline void int4_rows(const QuantArgs& q, std::int64_t row, Ahead ahead) noexcept {
  constexpr int vectors = rows <= kPlainInt4Rows ? 4 : 2;
  const std::int64_t begin = q.k_begin / q.group;
  const std::int8_t* a = q.panel + row * q.panel_stride + q.k_begin;
  const std::int32_t* sums = q.row_sums + row * q.sums_stride + begin;
  const Int4Stripe parts(q);
  const std::byte* codes = q.stripe + parts.codes + q.k_begin * kStripeColumns / 2;
  const std::byte* scales = q.stripe + parts.scales + begin * kLine;
  const std::byte* zeros = q.stripe + parts.zeros + begin * kLine / 2;
  float* acc = q.acc + row * kStripeColumns;
  for (int i = 0; q.k_begin == 0 && i < rows * kStripeColumns; i += 8) {
    _mm256_store_ps(acc + i, _mm256_setzero_ps());
  }
  for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
    ahead.group();
    for (int half = 0; half < 4 / vectors; ++half) {
      __m256i sum[rows][vectors];
      begin_sums<rows, vectors, zero_points>(sums, q.sums_stride, zeros + half * 16, sum);
      for (std::int64_t i = 0; i < q.group; i += kRun) {
        add_products<rows, vectors>(codes + i / kRun * kRunBytes + half * kLine, a + i,
                                    q.panel_stride, sum, ahead);
      }
      fold<rows, vectors>(sum, scales + half * 32, acc + half * 16);
    }
    codes += q.group / kRun * kRunBytes, a += q.group, ++sums, scales += kLine, zeros += kLine / 2;
  }
  for (int i = 0; q.k_end == q.depth && i < rows * kStripeColumns; i += 8) {
    const __m256 t = _mm256_set1_ps(q.row_scale[row + i / kStripeColumns]);
    _mm256_store_ps(acc + i, _mm256_mul_ps(_mm256_load_ps(acc + i), t));
  }
}

template <bool zero_points, class Ahead>
inline void int4_block(const QuantArgs& q, std::int64_t row, int rows, Ahead ahead) noexcept {
  using Block = void (*)(const QuantArgs&, std::int64_t, Ahead) noexcept;
  static constexpr Block kBlocks[kBlockRows] = {
      int4_rows<1, zero_points, Ahead>, int4_rows<2, zero_points, Ahead>,
      int4_rows<3, zero_points, Ahead>, int4_rows<4, zero_points, Ahead>};
  kBlocks[rows - 1](q, row, ahead);
}

// One or two rows of a stripe in the order it lies in, which the hardware's prefetchers follow.
template <bool zero_points>
inline void stripe_as_it_lies(const QuantArgs& q) noexcept {
  load_scales(q);
  int4_block<zero_points>(q, 0, static_cast<int>(q.rows), Nothing{});
  fetch_beginning(q.next);
}

template <bool zero_points>
inline void all_rows(const QuantArgs& q) noexcept {
  if (q.in_order && q.rows <= kPlainInt4Rows) return stripe_as_it_lies<zero_points>(q);
  const std::int64_t blocks = (q.rows + kBlockRows - 1) / kBlockRows;
  const std::int64_t lines = (q.k_end - q.k_begin) / 4;
  Prefetcher prefetcher(q.in_order ? PrefetchPairs{} : q.prefetch, blocks * lines);
  int rows = 0;
  for (std::int64_t row = 0, left = blocks; left > 0; row += rows, --left) {
    rows = static_cast<int>((q.rows - row + left - 1) / left);  // even blocks
    if (!q.in_order) {
      int4_block<zero_points>(q, row, rows, Spread(prefetcher));
    } else if (row == 0) {
      int4_block<zero_points>(q, row, rows, NextStripe(q));
    } else {
      int4_block<zero_points>(q, row, rows, Nothing());
    }
  }
}

}  // namespace

void quant_int4_avx2(const QuantArgs& q) noexcept {
  q.zero_points ? all_rows<true>(q) : all_rows<false>(q);
}

}  // namespace switchyard::gemm
