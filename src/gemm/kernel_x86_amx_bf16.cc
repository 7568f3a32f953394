#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"

// Eight tiles: 0-3 accumulate a 32 x 32 block (two row tiles by two column tiles), 4-5 hold
// activations, 6-7 weights. One step of depth 32 loads 4 KiB and multiplies 4 times, 16 cycles
// each: 64 cycles. Panel and stripe lie in L2, which gives some 46 bytes a cycle: 89 cycles a step
// if both came from there. So the depth is cut into chunks of 512, whose 32 KiB of weights stay in
// L1 (48 KiB) while all rows pass by, and L2 has only the 2 KiB of activations to give in 64
// cycles.
//
//   L1   weights of the chunk 32 KiB; activations must not push them out: TILELOADDT1 takes a line
//        from L2 without keeping it
//   L2   panel, this stripe and the next, accumulators between chunks (4 KiB of each block out
//        and in every 16 steps, also without keeping them in L1)
//
// Of the peak, all from L2, 256 and 352 rows, depth 2048: whole depth 0.62 and 0.66; chunks of
// 256, 512, 1024 with plain loads 0.62, 0.52, -; with TILELOADDT1 0.63, 0.74 (0.78), 0.64. Chunks
// of 384 to 576 are within 2% of each other. Prefetching either operand into L1 by software made it
// slower. Up to 64 rows the accumulators cost more than the second reading of the weights.
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
constexpr std::int64_t kChunkDepth = 512;
constexpr std::int64_t kFewRows = 64;

struct alignas(64) TileConfig {
  std::uint8_t palette;
  std::uint8_t start_row;
  std::uint8_t reserved[14];
  std::uint16_t bytes_per_row[16];
  std::uint8_t rows[16];
};

// Where a run of steps begins: depths [k, k + depth) of a stripe, onto what earlier ones left.
struct Chunk {
  std::int64_t depth;
  const std::byte* weights;
  bool accumulate;
};

inline void pair_of_row_tiles(const Chunk& chunk, const std::byte* a, std::int64_t tile_bytes,
                              float* acc, Prefetcher& prefetcher) noexcept {
  const std::byte* a1 = a + tile_bytes;
  const std::byte* b = chunk.weights;
  float* acc1 = acc + kTileRows * kStripeColumns;
  _tile_stream_loadd(4, a, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a1, kLine);
  if (chunk.accumulate) {
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
  for (std::int64_t k = kDepthUnit; k < chunk.depth; k += kDepthUnit) {
    a += kTileBytes;
    a1 += kTileBytes;
    b += 2 * kTileBytes;
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_stream_loadd(4, a, kLine);
    _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_stream_loadd(5, a1, kLine);
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

inline void single_row_tile(const Chunk& chunk, const std::byte* a, float* acc,
                            Prefetcher& prefetcher) noexcept {
  const std::byte* b = chunk.weights;
  _tile_loadd(4, a, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  if (chunk.accumulate) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  std::int64_t left = chunk.depth / kDepthUnit;
  for (; left > 2; left -= 2) {  // two sets of operands take turns
    _tile_loadd(5, a + kTileBytes, kLine);
    _tile_loadd(2, b + 2 * kTileBytes, kLine);
    _tile_loadd(3, b + 3 * kTileBytes, kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    prefetcher.step();
    a += 2 * kTileBytes;
    b += 4 * kTileBytes;
    _tile_loadd(4, a, kLine);
    _tile_loadd(6, b, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_dpbf16ps(0, 5, 2);
    _tile_dpbf16ps(1, 5, 3);
    prefetcher.step();
  }
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  prefetcher.step();
  if (left == 2) {
    _tile_loadd(4, a + kTileBytes, kLine);
    _tile_loadd(6, b + 2 * kTileBytes, kLine);
    _tile_loadd(7, b + 3 * kTileBytes, kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    prefetcher.step();
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
  const std::int64_t tile_bytes = g.panel_stride * 2;
  const std::int64_t chunk_depth = g.rows <= kFewRows ? g.depth : kChunkDepth;
  Prefetcher prefetcher(g, (row_tiles + 1) / 2 * (g.depth / kDepthUnit));
  fence();
  for (std::int64_t k = 0; k < g.depth; k += chunk_depth) {
    const Chunk chunk{g.depth - k < chunk_depth ? g.depth - k : chunk_depth,
                      static_cast<const std::byte*>(g.stripe) + k * kStripeColumns * 2,
                      g.accumulate || k > 0};
    const std::byte* a = static_cast<const std::byte*>(g.panel) + k * kTileRows * 2;
    float* acc = g.acc;
    std::int64_t tile = 0;
    for (; tile + 2 <= row_tiles; tile += 2) {
      pair_of_row_tiles(chunk, a, tile_bytes, acc, prefetcher);
      a += 2 * tile_bytes;
      acc += 2 * kTileRows * kStripeColumns;
    }
    if (tile < row_tiles) single_row_tile(chunk, a, acc, prefetcher);
  }
  fence();
}

}  // namespace switchyard::gemm
