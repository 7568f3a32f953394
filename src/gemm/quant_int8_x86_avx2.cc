#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// Without VNNI the shortest exact way is vpmaddwd: even and odd bytes of a register of 32 codes (8
// columns, 4 of depth) become words by a mask and a shift, a row's words of even and odd depth are
// broadcast, and products add up in 32 bits: 4 instructions a row and 2 for all. Halves of a code
// by vpmaddubsw take 4.5 and 3, and magnitudes with vpsignb 4 and 2 of fewer units. Rows become
// words 512 of depth at a time, 16 KiB of codes, which two blocks of rows then share in L1.
//
// Registers: 4 rows by 16 columns (a line of codes) in 8 accumulators, 4 of words of codes, 1
// broadcast. A line of the first 16 columns after the other for 64 of depth, then of the others:
// the order they lie in.
//
// GCC 12 must be kept from reordering the additions: it forms all products of 32 of depth first and
// spills them. Zen 4, weights in L2, of the time of halves of codes with such spills, 1, 2, 3, 4, 8
// rows: halves without spills 0.86, 0.74, 0.71, 0.82, 0.82; this 0.63, 0.60, 0.57, 0.54, 0.54: some
// 3.2 vector instructions a cycle, as loops of nothing else do there.
//
// Where memory is read best in order (CpuFeatures::reads_in_order) that is all the fetching one or
// two rows need; from three on products take longer, and codes are fetched into L2 8 KiB ahead. A
// line at a time: GCC 12 put eight prefetches in a row, which wait for each other. Zen 4, depth
// 2048, of a plain read by one thread, that gets 31 GB/s, and by two where they get 34:
//
//   rows                       1           2           3           4           5
//   halves, with spills        0.85  0.92  0.67  0.90  0.46  0.75  0.34  0.57        0.41
//   this, nothing fetched      0.91  0.94  0.82  0.92  0.54  0.68  0.41  0.56        0.52
//     by eight lines           0.65  0.85  0.59  0.84  0.55  0.81  0.54  0.80        0.59
//     by one                               0.84  0.91  0.74  0.90  0.59  0.88        0.73
//
// 4, 16 and 32 KiB ahead are the same or slower.

namespace switchyard::gemm {
namespace {

constexpr int kBlockRows = 4;
constexpr int kLines = 8;               // unrolled; half of those of a step
constexpr std::int64_t kLine = 64;      // bytes: 16 columns, 4 of depth
constexpr std::int64_t kPass = 512;     // depth for which rows are words
constexpr std::int64_t kAhead = 256;    // depth, 8 KiB
constexpr std::int64_t kPlainRows = 2;  // up to which the hardware's prefetchers do

inline __m256i words_of_depth(const std::int16_t* words) noexcept {
  std::int32_t pair;
  __builtin_memcpy(&pair, words, sizeof pair);
  return _mm256_set1_epi32(pair);
}

inline __m256i load(const void* from) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

/// A block of rows as words: row r at r * kPass, of each 32 of depth the even ones, then the odd.
inline void widen_rows(const QuantArgs& q, std::int64_t row, int rows, std::int64_t k,
                       std::int64_t depth, std::int16_t* words) noexcept {
  for (int r = 0; r < rows; ++r) {
    const std::int8_t* a = q.panel + (row + r) * q.panel_stride + k;
    auto* to = reinterpret_cast<__m256i*>(words + r * kPass);
    for (std::int64_t i = 0; i < depth; i += 32, to += 2) {
      const __m256i bytes = load(a + i);
      _mm256_store_si256(to, _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8));
      _mm256_store_si256(to + 1, _mm256_srai_epi16(bytes, 8));
    }
  }
}

// What is fetched beside a block of rows: the codes that follow in memory, ...
class CodesAhead {
 public:
  explicit CodesAhead(const QuantArgs& q) noexcept : q_(q) {}
  inline void step(std::int64_t k) noexcept {
    const std::int64_t ahead = k + kAhead, beyond = ahead - q_.k_end + q_.k_begin;
    if (ahead < q_.k_end) {
      line_ = q_.stripe + ahead * kStripeColumns;
    } else if (q_.next != nullptr && beyond < q_.k_end) {
      line_ = q_.next + beyond * kStripeColumns;
    } else {
      line_ = q_.stripe + k * kStripeColumns;  // costs nothing
    }
  }
  inline void line() noexcept {
    __asm__ volatile("prefetcht1 %0" : : "m"(*line_));
    line_ += kLine;
  }

 private:
  const QuantArgs& q_;
  const std::byte* line_ = nullptr;
};

// ... the caller's part of the next stripes, spread evenly, ...
class Spread {
 public:
  explicit Spread(Prefetcher& prefetcher) noexcept : prefetcher_(prefetcher) {}
  inline void step(std::int64_t) noexcept { prefetcher_.step(); }
  inline void line() noexcept {}

 private:
  Prefetcher& prefetcher_;
};

// ... or nothing.
struct Nothing {
  inline void step(std::int64_t) noexcept {}
  inline void line() noexcept {}
};

/// Adds the products of 16 columns' words, all of them of even depth or all of odd.
template <int rows>
inline void add_products(__m256i first, __m256i second, const std::int16_t* words,
                         __m256i (&sum)[rows][2]) noexcept {
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    const __m256i x = words_of_depth(words + r * kPass);
    sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(first, x));
    sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(second, x));
    __asm__ volatile("" : "+x"(sum[r][0]), "+x"(sum[r][1]));  // see above
  }
}

/// Depth [k, k + depth) of the rows in `words`, whose sums are at acc.
template <int rows, class Ahead>
inline void int8_rows(const QuantArgs& q, const std::int16_t* words, std::int64_t k,
                      std::int64_t depth, float* acc, Ahead ahead) noexcept {
  const __m256i even = _mm256_set1_epi16(255);
  const std::byte* codes = q.stripe + k * kStripeColumns;
  for (const std::int64_t end = k + depth; k < end; k += kQuantDepthUnit) {
    ahead.step(k);
    for (int half = 0; half < 2; ++half) {
      auto* sums = reinterpret_cast<__m256i*>(acc + half * 16);
      __m256i sum[rows][2];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        sum[r][0] = k > 0 ? load(sums + r * 4) : _mm256_setzero_si256();
        sum[r][1] = k > 0 ? load(sums + r * 4 + 1) : _mm256_setzero_si256();
      }
      for (int i = 0; i < 2; ++i, codes += kLines * kLine, words += 32) {
#pragma GCC unroll 8
        for (int u = 0; u < kLines; ++u) {
          ahead.line();
          const __m256i a = load(codes + u * kLine), b = load(codes + u * kLine + 32);
          add_products<rows>(_mm256_and_si256(a, even), _mm256_and_si256(b, even), words + u * 2,
                             sum);
          add_products<rows>(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8), words + u * 2 + 16,
                             sum);
        }
      }
      if (half == 0) words -= 64;
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        _mm256_store_si256(sums + r * 4, sum[r][0]);
        _mm256_store_si256(sums + r * 4 + 1, sum[r][1]);
      }
    }
  }
}

template <class Ahead>
inline void int8_block(const QuantArgs& q, int rows, const std::int16_t* words, std::int64_t k,
                       std::int64_t depth, float* acc, Ahead ahead) noexcept {
  using Block = void (*)(const QuantArgs&, const std::int16_t*, std::int64_t, std::int64_t, float*,
                         Ahead) noexcept;
  static constexpr Block kBlocks[kBlockRows] = {int8_rows<1, Ahead>, int8_rows<2, Ahead>,
                                                int8_rows<3, Ahead>, int8_rows<4, Ahead>};
  kBlocks[rows - 1](q, words, k, depth, acc, ahead);
}

// acc = scales (sum - z sum of a)
inline void scale_int8(const QuantArgs& q) noexcept {
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const __m256i zero = _mm256_set1_epi32(kZeroOfInt8 * q.row_sums[r * q.sums_stride]);
    for (int j = 0; j < kStripeColumns; j += 8) {
      float* acc = q.acc + r * kStripeColumns + j;
      const __m256i sum = _mm256_add_epi32(load(acc), zero);
      const __m256 scale =
          _mm256_mul_ps(_mm256_loadu_ps(scales + j), _mm256_set1_ps(q.row_scale[r]));
      _mm256_store_ps(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
    }
  }
}

}  // namespace

void quant_int8_avx2(const QuantArgs& q) noexcept {
  auto* words = reinterpret_cast<std::int16_t*>(q.scratch);
  const std::int64_t blocks = (q.rows + kBlockRows - 1) / kBlockRows;
  Prefetcher prefetcher(q.in_order ? PrefetchPairs{} : q.prefetch,
                        blocks * ((q.k_end - q.k_begin) / kQuantDepthUnit));
  for (std::int64_t k = q.k_begin; k < q.k_end; k += kPass) {
    const std::int64_t depth = q.k_end - k < kPass ? q.k_end - k : kPass;
    int rows = 0;
    for (std::int64_t r = 0, left = blocks; left > 0; r += rows, --left) {
      rows = static_cast<int>((q.rows - r + left - 1) / left);  // even blocks
      float* acc = q.acc + r * kStripeColumns;
      widen_rows(q, r, rows, k, depth, words);
      if (!q.in_order) {
        int8_block(q, rows, words, k, depth, acc, Spread(prefetcher));
      } else if (r == 0 && q.rows > kPlainRows) {
        int8_block(q, rows, words, k, depth, acc, CodesAhead(q));
      } else {
        int8_block(q, rows, words, k, depth, acc, Nothing());
      }
    }
  }
  if (q.k_end == q.depth) scale_int8(q);
}

}  // namespace switchyard::gemm
