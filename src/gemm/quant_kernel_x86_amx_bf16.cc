#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// The block of kernel_x86_amx_bf16.cc with bytes: 64 of depth a tile, so twice its work a cycle for
// the same tile loads, and a chunk of 1024 of depth is 32 KiB of weights in L1 while all rows pass
// by, their tiles loaded without being kept there. Activations are signed, codes unsigned. (Every
// CPU with AMX-BF16 has AMX-INT8.) Rows of the panel lie whole, panel_stride apart: 16 lines a tile
// like a packed one, as fast, and rows between up and down need no packing.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kAccStride = kStripeColumns * 4;
constexpr std::int64_t kLine = 64;
constexpr std::int64_t kChunkDepth = 1024;
constexpr std::int64_t kFewRows = 64;  // up to which reading the weights twice costs less

inline void fence() noexcept { __asm__ volatile("" ::: "memory"); }

// Depths [k_begin, k_end) onto what earlier ones left in acc.
struct Chunk {
  std::int64_t k_begin, k_end;
  std::int64_t stride;
  const std::byte* weights;
};

inline void pair_of_row_tiles(const Chunk& chunk, const std::int8_t* a, float* acc,
                              Prefetcher& prefetcher) noexcept {
  const std::int64_t stride = chunk.stride;
  const std::int8_t* a1 = a + kTileRows * stride;
  const std::byte* b = chunk.weights;
  float* acc1 = acc + kTileRows * kStripeColumns;
  _tile_stream_loadd(4, a, stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a1, stride);
  if (chunk.k_begin > 0) {
    _tile_stream_loadd(0, acc, kAccStride);
    _tile_stream_loadd(1, acc + 16, kAccStride);
    _tile_stream_loadd(2, acc1, kAccStride);
    _tile_stream_loadd(3, acc1 + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t k = chunk.k_begin + kQuantDepthUnit; k < chunk.k_end; k += kQuantDepthUnit) {
    a += kQuantDepthUnit;
    a1 += kQuantDepthUnit;
    b += 2 * kTileBytes;
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_stream_loadd(4, a, stride);
    _tile_dpbsud(2, 5, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbsud(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_stream_loadd(5, a1, stride);
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

inline void single_row_tile(const Chunk& chunk, const std::int8_t* a, float* acc,
                            Prefetcher& prefetcher) noexcept {
  const std::int64_t stride = chunk.stride;
  const std::byte* b = chunk.weights;
  _tile_loadd(4, a, stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  if (chunk.k_begin > 0) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  std::int64_t left = (chunk.k_end - chunk.k_begin) / kQuantDepthUnit;
  for (; left > 2; left -= 2) {  // two sets of operands take turns
    _tile_loadd(5, a + kQuantDepthUnit, stride);
    _tile_loadd(2, b + 2 * kTileBytes, kLine);
    _tile_loadd(3, b + 3 * kTileBytes, kLine);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    prefetcher.step();
    a += 2 * kQuantDepthUnit;
    b += 4 * kTileBytes;
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_dpbsud(0, 5, 2);
    _tile_dpbsud(1, 5, 3);
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

// Integer sums of rows [begin, end) to f32, in place. Locals, since the stores may alias `q`.
inline void scale(const QuantArgs& q, std::int64_t begin, std::int64_t end) noexcept {
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
  const __m512 first = _mm512_loadu_ps(scales), second = _mm512_loadu_ps(scales + 16);
  const std::int32_t* sums = q.row_sums + begin * q.sums_stride;
  const std::int64_t sums_stride = q.sums_stride;
  const float* row_scale = q.row_scale;
  float* acc = q.acc + begin * kStripeColumns;
  for (std::int64_t r = begin; r < end; ++r, sums += sums_stride, acc += kStripeColumns) {
    const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * *sums);
    const __m512 t = _mm512_set1_ps(row_scale[r]);
    const __m512i a = _mm512_add_epi32(_mm512_load_si512(acc), zero);
    const __m512i b = _mm512_add_epi32(_mm512_load_si512(acc + 16), zero);
    _mm512_store_ps(acc, _mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(first, t)));
    _mm512_store_ps(acc + 16, _mm512_mul_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(second, t)));
  }
}

}  // namespace

void quant_int8_amx_bf16(const QuantArgs& q) noexcept {
  const std::int64_t depth = q.k_end - q.k_begin;
  const std::int64_t chunk_depth = q.rows <= kFewRows ? depth : kChunkDepth;
  const std::int64_t pair_rows = 2 * kTileRows;
  const std::int64_t pairs = (q.rows + pair_rows - 1) / pair_rows;
  Prefetcher prefetcher(q.prefetch, pairs * (depth / kQuantDepthUnit));
  fence();
  for (std::int64_t k = q.k_begin; k < q.k_end; k += chunk_depth) {
    const std::int64_t end = k + chunk_depth < q.k_end ? k + chunk_depth : q.k_end;
    const Chunk chunk{k, end, q.panel_stride, q.stripe + k * kStripeColumns};
    for (std::int64_t r = 0; r < q.rows; r += pair_rows) {
      const std::int8_t* a = q.panel + r * q.panel_stride + k;
      float* acc = q.acc + r * kStripeColumns;
      if (q.rows - r > kTileRows) {
        pair_of_row_tiles(chunk, a, acc, prefetcher);
      } else {
        single_row_tile(chunk, a, acc, prefetcher);
      }
      fence();
      if (end == q.depth) scale(q, r, r + pair_rows < q.rows ? r + pair_rows : q.rows);
    }
  }
}

}  // namespace switchyard::gemm
