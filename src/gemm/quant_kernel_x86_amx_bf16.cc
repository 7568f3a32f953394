#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// int8: the block of kernel_x86_amx_bf16.cc with bytes, 64 of depth a tile, so twice its work a
// cycle for the same tile loads. Activations are signed, codes unsigned. (Every CPU with AMX-BF16
// has AMX-INT8.) Rows of the panel lie whole, row_stride apart: 16 lines a tile like a packed one,
// and rows between up and down need no packing.
//
// int4: folding a group's scales into f32 would cost more than its 32 to 128 of depth in tiles, so
// a stripe is widened to bf16 with its scales, once for all rows of a task, in 5 instructions for
// 16 weights, and multiplied with the codes of the activations, which bf16 holds exactly.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kAccStride = kStripeColumns * 4;
constexpr std::int64_t kLine = 64;

inline void fence() noexcept { __asm__ volatile("" ::: "memory"); }

inline void int8_pair(const QuantArgs& q, const std::int8_t* a, float* acc,
                      Prefetcher& prefetcher) noexcept {
  const std::int64_t stride = q.panel_stride;
  const std::int8_t* a1 = a + kTileRows * stride;
  const std::byte* b = q.stripe + q.k_begin * kStripeColumns;
  float* acc1 = acc + kTileRows * kStripeColumns;
  _tile_loadd(4, a, stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_loadd(5, a1, stride);
  if (q.k_begin > 0) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
    _tile_loadd(2, acc1, kAccStride);
    _tile_loadd(3, acc1 + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t k = q.k_begin + kQuantDepthUnit; k < q.k_end; k += kQuantDepthUnit) {
    a += kQuantDepthUnit;
    a1 += kQuantDepthUnit;
    b += 2 * kTileBytes;
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_loadd(4, a, stride);
    _tile_dpbsud(2, 5, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbsud(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_loadd(5, a1, stride);
    prefetcher.step();
  }
  _tile_dpbsud(0, 4, 6);
  _tile_dpbsud(1, 4, 7);
  _tile_dpbsud(2, 5, 6);
  _tile_dpbsud(3, 5, 7);
  prefetcher.step();
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, acc1, kAccStride);
  _tile_stored(3, acc1 + 16, kAccStride);
}

inline void int8_single(const QuantArgs& q, const std::int8_t* a, float* acc,
                        Prefetcher& prefetcher) noexcept {
  const std::int64_t stride = q.panel_stride;
  const std::byte* b = q.stripe + q.k_begin * kStripeColumns;
  _tile_loadd(4, a, stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  if (q.k_begin > 0) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  std::int64_t left = (q.k_end - q.k_begin) / kQuantDepthUnit;
  for (; left > 2; left -= 2) {  // two sets of operands take turns
    _tile_loadd(5, a + kQuantDepthUnit, stride);
    _tile_loadd(2, b + 2 * kTileBytes, kLine);
    _tile_loadd(3, b + 3 * kTileBytes, kLine);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    a += 2 * kQuantDepthUnit;
    b += 4 * kTileBytes;
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_dpbsud(0, 5, 2);
    _tile_dpbsud(1, 5, 3);
    prefetcher.step();
    prefetcher.step();
  }
  _tile_dpbsud(0, 4, 6);
  _tile_dpbsud(1, 4, 7);
  prefetcher.step();
  if (left == 2) {
    _tile_loadd(4, a + kQuantDepthUnit, stride);
    _tile_loadd(6, b + 2 * kTileBytes, kLine);
    _tile_loadd(7, b + 3 * kTileBytes, kLine);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    prefetcher.step();
  }
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
}

// Integer sums to f32, in place.
inline void scale_int8(const QuantArgs& q) noexcept {
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
  const __m512 scale[2] = {_mm512_loadu_ps(scales), _mm512_loadu_ps(scales + 16)};
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * q.row_sums[r * q.sums_stride]);
    const __m512 t = _mm512_set1_ps(q.row_scale[r]);
    for (int h = 0; h < 2; ++h) {
      float* acc = q.acc + r * kStripeColumns + h * 16;
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(acc), zero));
      _mm512_store_ps(acc, _mm512_mul_ps(exact, _mm512_mul_ps(scale[h], t)));
    }
  }
}

inline __m512i nearest_bf16(__m512 x) noexcept {  // in the upper halves; ties away from zero
  return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
}

// Codes [k_begin, k_end) with their scales as bf16 tiles.
inline void widen_int4(const QuantArgs& q) noexcept {
  const std::byte* scales = q.stripe + q.depth * kStripeColumns / 2;
  const std::byte* zeros = scales + q.depth / q.group * kStripeColumns * 2;
  const __m512 value_of_code = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::byte* out = q.scratch;
  for (std::int64_t k = q.k_begin; k < q.k_end; k += q.group) {
    const std::int64_t g = k / q.group;
    for (int h = 0; h < 2; ++h) {
      const __m512 scale = _mm512_cvtph_ps(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + (g * 32 + h * 16) * 2)));
      __m512 zero = _mm512_set1_ps(kZeroOfInt4);
      if (q.zero_points) {
        zero = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros + g * 32 + h * 16))));
      }
      const __m512 minus_zero = _mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), zero), scale);
      for (std::int64_t i = k; i < k + q.group; i += 8) {
        const __m512i codes = _mm512_loadu_si512(q.stripe + i * 16 + h * 64);
        // Of the nibbles of a column's 4 bytes the low ones are depths 0-3, the high ones 4-7; the
        // permutation looks at the lowest 4 bits only.
        const auto weight = [&](int nibble) __attribute__((always_inline)) {
          const __m512i index = _mm512_srlv_epi32(codes, _mm512_set1_epi32(4 * nibble));
          const __m512 value = _mm512_permutexvar_ps(index, value_of_code);
          return nearest_bf16(_mm512_fmadd_ps(value, scale, minus_zero));
        };
        const std::int64_t at = i - q.k_begin;
        std::byte* pairs = out + at / 32 * 2048 + h * kTileBytes + at % 32 / 2 * kLine;
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair) {
          const int nibble = pair % 2 * 4 + pair / 2;
          const __m512i even = _mm512_srli_epi32(weight(nibble), 16);
          const __m512i odd = weight(nibble + 2);
          _mm512_store_si512(pairs + pair * kLine, _mm512_mask_blend_epi16(0xaaaaaaaa, even, odd));
        }
      }
    }
  }
}

}  // namespace

void quant_int8_s8_amx_bf16(const QuantArgs& q) noexcept {
  const std::int64_t row_tiles = (q.rows + kTileRows - 1) / kTileRows;
  const std::int64_t steps = (row_tiles + 1) / 2 * ((q.k_end - q.k_begin) / kQuantDepthUnit);
  Prefetcher prefetcher(q.prefetch, q.prefetch_bytes, steps);
  const auto* a = static_cast<const std::int8_t*>(q.panel);
  float* acc = q.acc;
  fence();
  std::int64_t tile = 0;
  for (; tile + 2 <= row_tiles; tile += 2) {
    int8_pair(q, a + q.k_begin, acc, prefetcher);
    a += 2 * kTileRows * q.panel_stride;
    acc += 2 * kTileRows * kStripeColumns;
  }
  if (tile < row_tiles) int8_single(q, a + q.k_begin, acc, prefetcher);
  fence();
  if (q.k_end == q.depth) scale_int8(q);
}

void quant_int4_bf16_amx_bf16(const QuantArgs& q) noexcept {
  widen_int4(q);
  gemm_bf16_bf16_amx_bf16({.panel = q.panel,
                           .panel_stride = q.panel_stride,
                           .stripe = q.scratch,
                           .depth = q.k_end - q.k_begin,
                           .acc = q.acc,
                           .rows = q.rows,
                           .accumulate = q.k_begin > 0,
                           .prefetch = q.prefetch,
                           .prefetch_bytes = q.prefetch_bytes});
  if (q.k_end < q.depth) return;
  for (std::int64_t r = 0; r < q.rows; ++r) {
    const __m512 t = _mm512_set1_ps(q.row_scale[r]);
    float* acc = q.acc + r * kStripeColumns;
    _mm512_store_ps(acc, _mm512_mul_ps(_mm512_load_ps(acc), t));
    _mm512_store_ps(acc + 16, _mm512_mul_ps(_mm512_load_ps(acc + 16), t));
  }
}

}  // namespace switchyard::gemm
