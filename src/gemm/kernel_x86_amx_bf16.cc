#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// Eight tiles: 0-3 accumulate a 32 x 32 block (two row tiles by two column tiles), 4-5 hold
// activations, 6-7 weights. One step of depth 32 loads 4 KiB and multiplies 4 times, 16 cycles
// each: 64 cycles, so 64 bytes a cycle of tile loads, and L2, where panel and stripe lie, gives
// about
// 46. Keeping a part of the weights (256 deep, 16 KiB) in L1 while the rows stream past asks less
// of L2, but loads and stores the accumulators once a part: measured 0.65 of the peak against 0.72
// for the whole depth in one go.
//
// A tile is loaded for the next step right after its last use in this one. With the four loads
// together in front of the four products the same work from L1 took 1.05 to 1.2 times as long: the
// loads wait for the products that still read their tiles.
//
// With one row tile each of the two accumulators waits for its own latency (52 cycles a step): 39
// bytes of weights a cycle, above what memory gives.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kAccStride = kStripeColumns * 4;
constexpr std::int64_t kLine = 64;

struct alignas(64) TileConfig {
  std::uint8_t palette;
  std::uint8_t start_row;
  std::uint8_t reserved[14];
  std::uint16_t bytes_per_row[16];
  std::uint8_t rows[16];
};

inline void pair_of_row_tiles(const GemmArgs& g, const std::byte* a, float* acc,
                              Prefetcher& prefetcher) noexcept {
  const std::byte* a1 = a + g.panel_stride * 2;
  const std::byte* b = static_cast<const std::byte*>(g.stripe);
  float* acc1 = acc + kTileRows * kStripeColumns;
  _tile_loadd(4, a, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_loadd(5, a1, kLine);
  if (g.accumulate) {
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
  for (std::int64_t k = kDepthUnit; k < g.depth; k += kDepthUnit) {
    a += kTileBytes;
    a1 += kTileBytes;
    b += 2 * kTileBytes;
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(4, a, kLine);
    _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_loadd(5, a1, kLine);
    prefetcher.step();
  }
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
  prefetcher.step();
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, acc1, kAccStride);
  _tile_stored(3, acc1 + 16, kAccStride);
}

inline void single_row_tile(const GemmArgs& g, const std::byte* a, float* acc,
                            Prefetcher& prefetcher) noexcept {
  const std::byte* b = static_cast<const std::byte*>(g.stripe);
  _tile_loadd(4, a, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  if (g.accumulate) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  std::int64_t left = g.depth / kDepthUnit;
  for (; left > 2; left -= 2) {  // two sets of operands take turns
    _tile_loadd(5, a + kTileBytes, kLine);
    _tile_loadd(2, b + 2 * kTileBytes, kLine);
    _tile_loadd(3, b + 3 * kTileBytes, kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    a += 2 * kTileBytes;
    b += 4 * kTileBytes;
    _tile_loadd(4, a, kLine);
    _tile_loadd(6, b, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_dpbf16ps(0, 5, 2);
    _tile_dpbf16ps(1, 5, 3);
    prefetcher.step();
    prefetcher.step();
  }
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if (left == 2) {
    _tile_loadd(4, a + kTileBytes, kLine);
    _tile_loadd(6, b + 2 * kTileBytes, kLine);
    _tile_loadd(7, b + 3 * kTileBytes, kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
}

// The tile intrinsics of GCC 12 carry no memory clobber: keep ordinary accesses on their side.
inline void fence() noexcept { __asm__ volatile("" ::: "memory"); }

}  // namespace

void amx_begin() noexcept {
  TileConfig config = {};
  config.palette = 1;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes_per_row[tile] = kLine;
    config.rows[tile] = kTileRows;
  }
  // GCC 12 believes that the load reads 8 bytes and drops the other stores: force all 64 out.
  __asm__ volatile("" : : "m"(config) : "memory");
  _tile_loadconfig(&config);
}

void amx_end() noexcept { _tile_release(); }

void gemm_bf16_bf16_amx_bf16(const GemmArgs& g) noexcept {
  const std::int64_t row_tiles = (g.rows + kTileRows - 1) / kTileRows;
  const std::int64_t steps = (row_tiles + 1) / 2 * (g.depth / kDepthUnit);
  Prefetcher prefetcher(g, steps);
  const std::byte* a = static_cast<const std::byte*>(g.panel);
  float* acc = g.acc;
  fence();
  std::int64_t tile = 0;
  for (; tile + 2 <= row_tiles; tile += 2) {
    pair_of_row_tiles(g, a, acc, prefetcher);
    a += 2 * g.panel_stride * 2;
    acc += 2 * kTileRows * kStripeColumns;
  }
  if (tile < row_tiles) single_row_tile(g, a, acc, prefetcher);
  fence();
}

}  // namespace switchyard::gemm
