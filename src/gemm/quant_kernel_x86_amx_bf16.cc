#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"

// The block of kernel_x86_amx_bf16.cc with bytes: 64 of depth a tile, so twice its work a cycle for
// the same tile loads, and a chunk of 1024 of depth is 32 KiB of weights in L1 while all rows pass
// by, their tiles loaded without being kept there. Activations are signed, codes unsigned. (Every
// CPU with AMX-BF16 has AMX-INT8.) Rows of the panel lie whole, panel_stride apart: 16 lines a tile
// like a packed one, as fast, and rows between up and down need no packing.
//
// The sums of a pair of row tiles stay in their tiles until the first step of the next pair, which
// stores each tile just before it uses it, and are scaled beside the steps that follow, two rows a
// step. In blocks of 16 steps, all in L1, of 64 cycles a step: tiles stored after the block cost 75
// cycles, in the next block's first step 1; 32 rows scaled after it 155 cycles, two a step 1 (a
// step takes up to 24 vector instructions beside it). The order of loads and products does not
// matter in L1: tiles are renamed. One core, 256 rows of depth 2048, microseconds a stripe:
// products 7.5, from L2 7.7, with stores and scales 9.0 (9.7 one after the other), weights from L3
// 10.2 (10.8).

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

// Integer sums of rows [begin, end) to f32, in place, a row at a time.
class Scaling {
 public:
  Scaling() noexcept : Scaling(nullptr, nullptr) {}
  Scaling(const QuantArgs& q, std::int64_t begin, std::int64_t end) noexcept
      : Scaling(reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns),
                q.acc + begin * kStripeColumns) {
    left_ = end - begin;
    row_scale_ = q.row_scale + begin;
    row_sum_ = q.row_sums + begin * q.sums_stride;
    sums_stride_ = q.sums_stride;
  }

  inline void row() noexcept {
    if (left_ <= 0) return;
    const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * *row_sum_);
    const __m512 t = _mm512_set1_ps(*row_scale_);
    const __m512i a = _mm512_add_epi32(_mm512_load_si512(acc_), zero);
    const __m512i b = _mm512_add_epi32(_mm512_load_si512(acc_ + 16), zero);
    _mm512_store_ps(acc_, _mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(first_, t)));
    _mm512_store_ps(acc_ + 16, _mm512_mul_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(second_, t)));
    --left_;
    ++row_scale_;
    row_sum_ += sums_stride_;
    acc_ += kStripeColumns;
  }
  inline void all() noexcept {
    while (left_ > 0) row();
  }

 private:
  Scaling(const float* scales, float* acc) noexcept
      : first_(scales == nullptr ? _mm512_setzero_ps() : _mm512_loadu_ps(scales)),
        second_(scales == nullptr ? _mm512_setzero_ps() : _mm512_loadu_ps(scales + 16)),
        acc_(acc) {}

  __m512 first_, second_;
  float* acc_;
  std::int64_t left_ = 0;
  const float* row_scale_ = nullptr;
  const std::int32_t* row_sum_ = nullptr;
  std::int64_t sums_stride_ = 0;
};

inline void store_pair(float* acc) noexcept {
  float* acc1 = acc + kTileRows * kStripeColumns;
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, acc1, kAccStride);
  _tile_stored(3, acc1 + 16, kAccStride);
}

// One product of a pair's first step: stores what the tile holds from before, unless that is null,
// and begins it anew, with the sums of earlier depth when there are such.
#define SWITCHYARD_FIRST_PRODUCT(tile, at, activations, weights)          \
  do {                                                                    \
    if (before != nullptr) _tile_stored(tile, before + (at), kAccStride); \
    if (chunk.k_begin > 0) {                                              \
      _tile_stream_loadd(tile, acc + (at), kAccStride);                   \
    } else {                                                              \
      _tile_zero(tile);                                                   \
    }                                                                     \
    _tile_dpbsud(tile, activations, weights);                             \
  } while (false)

// Leaves the sums in tiles 0 to 3, stores those of the pair before, and scales them.
inline void pair_of_row_tiles(const Chunk& chunk, const std::int8_t* a, float* acc, float* before,
                              Scaling scaling, Prefetcher& prefetcher) noexcept {
  constexpr std::int64_t kSecond = kTileRows * kStripeColumns;
  const std::int64_t stride = chunk.stride;
  const std::int8_t* a1 = a + kTileRows * stride;
  const std::byte* b = chunk.weights;
  _tile_stream_loadd(4, a, stride);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a1, stride);
  SWITCHYARD_FIRST_PRODUCT(0, 0, 4, 6);
  SWITCHYARD_FIRST_PRODUCT(1, 16, 4, 7);
  SWITCHYARD_FIRST_PRODUCT(2, kSecond, 5, 6);
  SWITCHYARD_FIRST_PRODUCT(3, kSecond + 16, 5, 7);
  prefetcher.step();
  fence();
  const std::int64_t steps = (chunk.k_end - chunk.k_begin) / kQuantDepthUnit;
  if (steps > 1) {
    _tile_stream_loadd(4, a + kQuantDepthUnit, stride);
    _tile_loadd(6, b + 2 * kTileBytes, kLine);
    _tile_loadd(7, b + 3 * kTileBytes, kLine);
    _tile_stream_loadd(5, a1 + kQuantDepthUnit, stride);
  }
  a += kQuantDepthUnit;
  a1 += kQuantDepthUnit;
  b += 2 * kTileBytes;
  for (std::int64_t left = steps - 2; left > 0; --left) {
    a += kQuantDepthUnit;
    a1 += kQuantDepthUnit;
    b += 2 * kTileBytes;
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_stream_loadd(4, a, stride);
    scaling.row();
    _tile_dpbsud(2, 5, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbsud(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_stream_loadd(5, a1, stride);
    scaling.row();
    prefetcher.step();
  }
  if (steps > 1) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
    prefetcher.step();
  }
  scaling.all();
  fence();
}

#undef SWITCHYARD_FIRST_PRODUCT

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

}  // namespace

void quant_int8_amx_bf16(const QuantArgs& q) noexcept {
  const std::int64_t depth = q.k_end - q.k_begin;
  const std::int64_t chunk_depth = q.rows <= kFewRows ? depth : kChunkDepth;
  const std::int64_t pair_rows = 2 * kTileRows;
  const std::int64_t pairs = (q.rows + pair_rows - 1) / pair_rows;
  Prefetcher prefetcher(q.prefetch, pairs * (depth / kQuantDepthUnit));
  fence();
  // The pair whose sums up to the depth in_tiles_end are in tiles yet.
  std::int64_t in_tiles = -1, in_tiles_end = 0;
  const auto acc_of = [&](std::int64_t r) { return r < 0 ? nullptr : q.acc + r * kStripeColumns; };
  const auto scaling_of = [&](std::int64_t r, std::int64_t end) {
    if (r < 0 || end < q.depth) return Scaling();
    return Scaling(q, r, r + pair_rows < q.rows ? r + pair_rows : q.rows);
  };
  const auto empty_tiles = [&] {
    if (in_tiles < 0) return;
    store_pair(acc_of(in_tiles));
    fence();
    scaling_of(in_tiles, in_tiles_end).all();
    in_tiles = -1;
  };
  for (std::int64_t k = q.k_begin; k < q.k_end; k += chunk_depth) {
    const std::int64_t end = k + chunk_depth < q.k_end ? k + chunk_depth : q.k_end;
    const Chunk chunk{k, end, q.panel_stride, q.stripe + k * kStripeColumns};
    for (std::int64_t r = 0; r < q.rows; r += pair_rows) {
      const std::int8_t* a = q.panel + r * q.panel_stride + k;
      if (q.rows - r > kTileRows) {
        if (r == in_tiles) empty_tiles();
        pair_of_row_tiles(chunk, a, acc_of(r), acc_of(in_tiles), scaling_of(in_tiles, in_tiles_end),
                          prefetcher);
        in_tiles = r;
        in_tiles_end = end;
      } else {
        empty_tiles();
        single_row_tile(chunk, a, acc_of(r), prefetcher);
        fence();
        scaling_of(r, end).all();
      }
    }
  }
  empty_tiles();
}

}  // namespace switchyard::gemm
