#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"
#include "gemm/tile_config.h"

// int4 in tiles, of more than 16 rows: 512 of a stripe's depth at a time, a chunk, are unpacked
// into signed bytes, 16 KiB that stay in L1 while all rows pass by.
//
//   tiles  0-3 sums: 2 row tiles x 2 column tiles   4-5 activations   6-7 weights
//   L1     weights 16 KiB, sums 4 KiB
//
// Beside a step of four products, 64 cycles, there is room for some 24 vector instructions. Folding
// the sums of 32 rows takes 128, more than steps as short as a group leave room for: with groups of
// 128 it took half the time of the products, with smaller ones all of it. So groups are brought to
// one scale a chunk, and their sums folded once:
//
//   S = max |s| max(8, z, 15 - z) / 127 of the chunk's groups      (z = 8 without zero points)
//   b = round((u - z) s / S), a signed byte, S b off by 0.52 S at most
//
// in 22 instructions for 128 weights, by fixed-point products of 16 bits. The sums of a pair of row
// tiles stay in their tiles until the first step of the next pair stores them, each just before it
// uses the tile (see quant_kernel_x86_amx_bf16.cc), and are folded beside the steps that follow.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kLine = 64;
constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kChunk = 512;
constexpr std::int64_t kSumsStride = 2 * kLine;
constexpr int kFoldedRows = 3;  // beside a step

struct Scales {
  const std::byte* scales;  // [groups][32] f16
  const std::byte* zeros;   // [groups][32] bytes

  explicit Scales(const QuantArgs& q) noexcept
      : scales(q.stripe + Int4Stripe(q).scales), zeros(q.stripe + Int4Stripe(q).zeros) {}

  __m512 scale(std::int64_t g, int h) const noexcept {
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + (g * 32 + h * 16) * 2)));
  }
  __m512i zero(std::int64_t g, int h) const noexcept {
    return _mm512_cvtepu8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros + g * 32 + h * 16)));
  }
};

// S of [k0, k1) for column tile h.
inline __m512 joined_scale(const QuantArgs& q, std::int64_t k0, std::int64_t k1, int h) noexcept {
  const Scales scales(q);
  const __m512 eight = _mm512_set1_ps(kZeroOfInt4);
  __m512 most = _mm512_setzero_ps();
  for (std::int64_t g = k0 / q.group; g < k1 / q.group; ++g) {
    const __m512 zero = q.zero_points ? _mm512_cvtepi32_ps(scales.zero(g, h)) : eight;
    const __m512 above = _mm512_max_ps(eight, _mm512_sub_ps(_mm512_set1_ps(15), zero));
    const __m512 reach =
        _mm512_mul_ps(_mm512_abs_ps(scales.scale(g, h)), _mm512_max_ps(zero, above));
    most = _mm512_max_ps(most, reach);
  }
  return _mm512_mul_ps(most, _mm512_set1_ps(1.0f / 127));
}

// round(x) in both halves of 32 bits.
inline __m512i in_both_halves(__m512 x) noexcept {
  const __m512i word = _mm512_and_si512(_mm512_cvtps_epi32(x), _mm512_set1_epi32(0xffff));
  return _mm512_or_si512(word, _mm512_slli_epi32(word, 16));
}

// The same with all groups of the chunk brought to one scale, joined[32].
template <int kGroup>
inline void unpack_groups(const QuantArgs& q, std::int64_t k0, std::int64_t k1, std::byte* out,
                          float* joined) noexcept {
  const Scales scales(q);
  const __m512i top = _mm512_set1_epi16(static_cast<short>(0xf000));
  const __m512i low_byte = _mm512_set1_epi16(0xff);
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x88));  // codes to two's complement
  const __m512 eight = _mm512_set1_ps(kZeroOfInt4);
  __m512 inverse[2];
  for (int h = 0; h < 2; ++h) {
    const __m512 unit = joined_scale(q, k0, k1, h);
    _mm512_store_ps(joined + h * 16, unit);
    const __mmask16 any = _mm512_cmp_ps_mask(unit, _mm512_setzero_ps(), _CMP_GT_OQ);
    inverse[h] = _mm512_maskz_div_ps(any, _mm512_set1_ps(1), unit);
  }
  const std::byte* codes = q.stripe + Int4Stripe(q).codes + k0 * 16;
  constexpr int kPart = kGroup < 64 ? kGroup : 64;
  for (std::int64_t k = k0; k < k1; k += kPart) {
    std::byte* to = out + (k - k0) / 64 * 2 * kTileBytes + (k - k0) % 64 / 4 * kLine;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      // b in steps of 1/128: at most 127 * 128 < 2^14 of them, and half of 128 to round.
      const __m512 zero = q.zero_points ? _mm512_cvtepi32_ps(scales.zero(k / kGroup, h)) : eight;
      const __m512 ratio = _mm512_mul_ps(scales.scale(k / kGroup, h), inverse[h]);
      const __m512i factor = in_both_halves(_mm512_mul_ps(ratio, _mm512_set1_ps(2048)));
      const __m512i constant =
          in_both_halves(_mm512_fmadd_ps(_mm512_mul_ps(ratio, _mm512_sub_ps(eight, zero)),
                                         _mm512_set1_ps(128), _mm512_set1_ps(64)));
      const auto steps = [&](__m512i code) __attribute__((always_inline)) {
        return _mm512_add_epi16(_mm512_mulhi_epi16(code, factor), constant);
      };
      const auto bytes = [&](__m512i even, __m512i odd) __attribute__((always_inline)) {
        return _mm512_ternarylogic_epi64(low_byte, _mm512_srai_epi16(even, 7),
                                         _mm512_slli_epi16(odd, 1), 0xca);
      };
#pragma GCC unroll 8
      for (int i = 0; i < kPart / 8; ++i) {
        const __m512i u = _mm512_xor_si512(_mm512_loadu_si512(codes + (2 * i + h) * kLine), sign);
        const __m512i first = steps(_mm512_slli_epi16(u, 12));
        const __m512i second = steps(_mm512_and_si512(_mm512_slli_epi16(u, 4), top));
        const __m512i third = steps(_mm512_and_si512(_mm512_slli_epi16(u, 8), top));
        const __m512i fourth = steps(_mm512_and_si512(u, top));
        std::byte* line = to + h * kTileBytes + 2 * i * kLine;
        _mm512_store_si512(line, bytes(first, second));
        _mm512_store_si512(line + kLine, bytes(third, fourth));
      }
    }
    codes += kPart * 16;
  }
}

inline void unpack_joined(const QuantArgs& q, std::int64_t k0, std::int64_t k1, std::byte* out,
                          float* joined) noexcept {
  if (q.group == 32) return unpack_groups<32>(q, k0, k1, out, joined);
  if (q.group == 64) return unpack_groups<64>(q, k0, k1, out, joined);
  unpack_groups<128>(q, k0, k1, out, joined);
}

// A pair of row tiles' part of the depth, and where its sums go.
struct Pair {
  const std::int8_t* a;
  std::int64_t stride;
  std::int64_t rows;    // of both tiles; of one, it is multiplied twice
  std::int64_t steps;   // of 64
  std::byte* sums;      // [32][32] integers, for a while
  const float* scales;  // [32]
  float* acc;
  bool onto;               // what is in acc
  const float* row_scale;  // [rows], null before the end of the depth
};

// Adds the stored sums of a pair to its acc, a row at a time.
class Folding {
 public:
  explicit Folding(const Pair& pair) noexcept
      : first_(_mm512_load_ps(pair.scales)),
        second_(_mm512_load_ps(pair.scales + 16)),
        before_(pair.onto ? 0xffff : 0),
        sums_(pair.sums),
        acc_(pair.acc),
        row_scale_(pair.row_scale),
        left_(pair.rows) {}

  inline void row() noexcept {
    if (left_ <= 0) return;
    const __m512 a = _mm512_cvtepi32_ps(_mm512_load_si512(sums_));
    const __m512 b = _mm512_cvtepi32_ps(_mm512_load_si512(sums_ + kLine));
    __m512 first = _mm512_fmadd_ps(a, first_, _mm512_maskz_load_ps(before_, acc_));
    __m512 second = _mm512_fmadd_ps(b, second_, _mm512_maskz_load_ps(before_, acc_ + 16));
    if (row_scale_ != nullptr) {
      const __m512 scale = _mm512_set1_ps(*row_scale_++);
      first = _mm512_mul_ps(first, scale);
      second = _mm512_mul_ps(second, scale);
    }
    _mm512_store_ps(acc_, first);
    _mm512_store_ps(acc_ + 16, second);
    sums_ += kSumsStride;
    acc_ += kStripeColumns;
    --left_;
  }
  inline void all() noexcept {
    while (left_ > 0) row();
  }

 private:
  __m512 first_, second_;
  __mmask16 before_;
  const std::byte* sums_;
  float* acc_;
  const float* row_scale_;
  std::int64_t left_;
};

inline void store_sums(std::byte* sums) noexcept {
  _tile_stored(0, sums, kSumsStride);
  _tile_stored(1, sums + kLine, kSumsStride);
  _tile_stored(2, sums + kTileRows * kSumsStride, kSumsStride);
  _tile_stored(3, sums + kTileRows * kSumsStride + kLine, kSumsStride);
  fence();
}

// Leaves the sums in tiles 0 to 3; stores and folds those of the pair before, if there is one.
inline void pair_of_row_tiles(const Pair& pair, const std::byte* weights, const Pair* before,
                              Prefetcher& prefetcher) noexcept {
  const std::int8_t *a = pair.a, *a1 = pair.rows > kTileRows ? a + kTileRows * pair.stride : a;
  const std::byte* b = weights;
  _tile_stream_loadd(4, a, pair.stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a1, pair.stride);
  std::byte* sums = before != nullptr ? before->sums : nullptr;
  if (sums != nullptr) _tile_stored(0, sums, kSumsStride);
  _tile_zero(0);
  _tile_dpbssd(0, 4, 6);
  if (sums != nullptr) _tile_stored(1, sums + kLine, kSumsStride);
  _tile_zero(1);
  _tile_dpbssd(1, 4, 7);
  if (sums != nullptr) _tile_stored(2, sums + kTileRows * kSumsStride, kSumsStride);
  _tile_zero(2);
  _tile_dpbssd(2, 5, 6);
  if (sums != nullptr) _tile_stored(3, sums + kTileRows * kSumsStride + kLine, kSumsStride);
  _tile_zero(3);
  _tile_dpbssd(3, 5, 7);
  prefetcher.step();
  fence();
  const auto next_step = [&]() __attribute__((always_inline)) {
    a += kQuantDepthUnit;
    a1 += kQuantDepthUnit;
    b += 2 * kTileBytes;
  };
  next_step();
  _tile_stream_loadd(4, a, pair.stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a1, pair.stride);
  Folding folding(before != nullptr ? *before : pair);
  for (std::int64_t left = pair.steps - 2; left > 0; --left) {
    next_step();
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_stream_loadd(4, a, pair.stride);
    _tile_dpbssd(2, 5, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbssd(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_stream_loadd(5, a1, pair.stride);
    prefetcher.step();
    if (before == nullptr) continue;
    for (int row = 0; row < kFoldedRows; ++row) folding.row();
  }
  _tile_dpbssd(0, 4, 6);
  _tile_dpbssd(1, 4, 7);
  _tile_dpbssd(2, 5, 6);
  _tile_dpbssd(3, 5, 7);
  prefetcher.step();
  if (before != nullptr) folding.all();
  fence();
}

// Groups joined.
inline void many_rows(const QuantArgs& q) noexcept {
  constexpr std::int64_t kPair = 2 * kTileRows;
  std::byte* sums = q.scratch + kChunk * kStripeColumns;
  auto* joined = reinterpret_cast<float*>(sums + 2 * kTileRows * kSumsStride);
  const std::int64_t pairs = (q.rows + kPair - 1) / kPair;
  Prefetcher prefetcher(q.prefetch, pairs * (q.k_end - q.k_begin) / kQuantDepthUnit);
  Pair before;
  bool has_before = false;
  for (std::int64_t k = q.k_begin; k < q.k_end; k += kChunk) {
    const std::int64_t end = k + kChunk < q.k_end ? k + kChunk : q.k_end;
    float* scales = joined + k / kChunk % 2 * kStripeColumns;  // the last pair needs those before
    unpack_joined(q, k, end, q.scratch, scales);
    fence();
    for (std::int64_t r = 0; r < q.rows; r += kPair) {
      const Pair pair{.a = q.panel + r * q.panel_stride + k,
                      .stride = q.panel_stride,
                      .rows = q.rows - r < kPair ? q.rows - r : kPair,
                      .steps = (end - k) / kQuantDepthUnit,
                      .sums = sums,
                      .scales = scales,
                      .acc = q.acc + r * kStripeColumns,
                      .onto = k > 0,
                      .row_scale = end == q.depth ? q.row_scale + r : nullptr};
      pair_of_row_tiles(pair, q.scratch, has_before ? &before : nullptr, prefetcher);
      before = pair;
      has_before = true;
    }
  }
  store_sums(sums);
  Folding(before).all();
}

}  // namespace

void quant_int4_amx_bf16(const QuantArgs& q) noexcept {
  q.rows > kTileRows ? many_rows(q) : quant_int4_few_rows_amx_bf16(q);
}

}  // namespace switchyard::gemm
