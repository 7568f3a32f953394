#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"
#include "gemm/rounds.h"
#include "gemm/tile_config.h"

// Eight tiles: 0-3 accumulate a 32 x 32 block (two row tiles by two column tiles), 4-5 hold
// activations, 6-7 weights. One step of depth 32 loads 4 KiB and multiplies 4 times, 16 cycles
// each: 64 cycles. What a step waits for is L1's 16 line buffers: a line from L2 holds one for some
// 16 cycles (46 bytes a cycle), one from memory for some 200.
//
// More than 64 rows: the tiles are the limit, so weights must not come from L2 with the
// activations. The depth is cut into chunks of 512, whose 32 KiB of weights stay in L1 (48 KiB)
// while all rows pass by, and L2 has only the 2 KiB of activations to give in 64 cycles:
//
//   L1   weights of the chunk 32 KiB; activations must not push them out: TILELOADDT1 takes a line
//        from L2 without keeping it
//   L2   panel, this stripe and the next, accumulators between chunks (4 KiB of each block out
//        and in every 16 steps)
//
// The chunk's weights take 8 of L1's 12 ways, evenly: 16 steps are two side by side of each of
// eight streams, 4 KiB. What is left holds the accumulators of 128 rows, so they are loaded plainly
// and found there when they are stored: 0.96 to 0.98 of the time with 112 to 160 rows of keeping
// them out too, 0.99 to 1 with 256.
//
// Of the peak, all from L2, 256 and 352 rows, depth 2048: whole depth 0.62 and 0.66; chunks of
// 256, 512, 1024 with plain loads 0.62, 0.52, -; with TILELOADDT1 0.63, 0.74 (0.78), 0.64. Chunks
// of 384 to 576 are within 2% of each other.
//
// Up to 64 rows: memory is the limit; weights go straight to L1 in rounds (rounds.h), whose lines
// are used twice with more than 32 rows.
//
// The lines are asked for evenly: after each tile product so many. All of a step's 32 at its end
// leave line buffers idle while the tiles work, and the times of both add up. Of what eight streams
// of plain loads read:
//
//   rows                                              16    32    48    64    80
//   as here                                           0.98  0.94  0.91  0.84
//   asked for at the end of a step                    0.96  0.92
//   the whole stripe into L2, in pairs of lines       0.87  0.78  0.78  0.76  0.75
//
// Up to 16 rows two stripes share each load of activations, 16 by 64 sums, half a round of each at
// a time (PairAhead): 16, 8 and 4 rows take 0.95, 0.96 and 0.97 of the time of one stripe after the
// other, which is that of plain loads; a quarter of a round at a time 1.0 to 1.03. Of more rows the
// sums would have to take turns in the tiles: 1.05 to 1.09 with 32, 0.98 to 1.13 with 64.
//
// A tile takes a line from L2 for each row that it is configured for, there or not: some 0.45 ns.
// So the rows of a block share the fewest tiles evenly (even_tile_rows), configured once a task.
// Of the time of whole tiles, weights from memory:
//
//   rows   1     2     4     8     20    36    42    52    56    65    70    84    98    120
//          0.95  0.97  0.97  0.97  0.92  0.97  0.98  0.97  0.98  0.97  0.98  0.97  0.96  0.98
//
// One tile more, so that all are in pairs, gains nothing: 65, 112 and 140 rows 1.0, 1.03 and 1.02.
// Configuring tiles before and after each stripe costs as much as it gains.
//
// A tile is loaded for the next step right after its last use in this one, also in a row tile that
// has no partner: a second set of operands beside the first takes 1 to 1.015 of the time. With the
// four loads together in front of the four products the same work from L1 took 1.05 to 1.2 times as
// long: the loads wait for the products that still read their tiles. The sums of a pair of row
// tiles stay in their tiles until the first step of the next pair, which stores each tile just
// before it uses it: 0.93 to 0.96 of the time with 128 and 256 rows, weights from memory, of
// storing them after their last step, which waits for the products.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kAccStride = kStripeColumns * 4;
constexpr std::int64_t kLine = 64;
constexpr std::int64_t kChunkSteps = 16;
constexpr std::int64_t kSecondTile = kTileRows * kStripeColumns;  // of a pair, in acc
constexpr int kPlaces = 4;  // in a step, where lines are asked for
static_assert(kStepBytes == 2 * kTileBytes);

// A run of steps of a stripe, onto what earlier ones left.
struct Run {
  const std::byte* weights;
  Order order;
  std::int64_t steps;
  bool accumulate;
};

inline void store_pair(float* acc) noexcept {
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, acc + kSecondTile, kAccStride);
  _tile_stored(3, acc + kSecondTile + 16, kAccStride);
}

// One product of a pair's first step: stores what the tile holds from before, unless that is null,
// and begins it anew.
#define SWITCHYARD_FIRST_PRODUCT(tile, at, activations, weights)          \
  do {                                                                    \
    if (before != nullptr) _tile_stored(tile, before + (at), kAccStride); \
    if (run.accumulate) {                                                 \
      _tile_loadd(tile, acc + (at), kAccStride);                          \
    } else {                                                              \
      _tile_zero(tile);                                                   \
    }                                                                     \
    _tile_dpbf16ps(tile, activations, weights);                           \
    ahead.step();                                                         \
  } while (false)

// Leaves its sums in tiles 0 to 3, and stores those of the pair before.
template <class Ahead>
inline void pair_of_row_tiles(const Run& run, const std::byte* panel, std::int64_t tile_bytes,
                              const float* acc, float* before, Ahead& ahead) noexcept {
  Order order = run.order;
  const std::byte* a = panel + order.position() * kTileBytes;
  const std::byte* b = run.weights + order.position() * kStepBytes;
  _tile_stream_loadd(4, a, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a + tile_bytes, kLine);
  SWITCHYARD_FIRST_PRODUCT(0, 0, 4, 6);
  SWITCHYARD_FIRST_PRODUCT(1, 16, 4, 7);
  SWITCHYARD_FIRST_PRODUCT(2, kSecondTile, 5, 6);
  SWITCHYARD_FIRST_PRODUCT(3, kSecondTile + 16, 5, 7);
  if (run.steps == 1) return;
  order.advance();
  a = panel + order.position() * kTileBytes;
  b = run.weights + order.position() * kStepBytes;
  _tile_stream_loadd(4, a, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  _tile_stream_loadd(5, a + tile_bytes, kLine);
  for (std::int64_t left = run.steps - 2; left > 0; --left) {
    order.advance();
    a = panel + order.position() * kTileBytes;
    b = run.weights + order.position() * kStepBytes;
    _tile_dpbf16ps(0, 4, 6);
    ahead.step();
    _tile_dpbf16ps(1, 4, 7);
    _tile_stream_loadd(4, a, kLine);
    ahead.step();
    _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(6, b, kLine);
    ahead.step();
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_stream_loadd(5, a + tile_bytes, kLine);
    ahead.step();
  }
  _tile_dpbf16ps(0, 4, 6);
  ahead.step();
  _tile_dpbf16ps(1, 4, 7);
  ahead.step();
  _tile_dpbf16ps(2, 5, 6);
  ahead.step();
  _tile_dpbf16ps(3, 5, 7);
  ahead.step();
}

#undef SWITCHYARD_FIRST_PRODUCT

template <class Ahead>
inline void half_step(Ahead& ahead) noexcept {
  for (int place = 0; place < kPlaces / 2; ++place) ahead.step();
}

template <class Ahead>
inline void single_row_tile(const Run& run, const std::byte* panel, float* acc,
                            Ahead& ahead) noexcept {
  Order order = run.order;
  const std::byte* b = run.weights + order.position() * kStepBytes;
  _tile_stream_loadd(4, panel + order.position() * kTileBytes, kLine);
  _tile_loadd(6, b, kLine);
  _tile_loadd(7, b + kTileBytes, kLine);
  if (run.accumulate) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  for (std::int64_t left = run.steps - 1; left > 0; --left) {
    order.advance();
    b = run.weights + order.position() * kStepBytes;
    half_step(ahead);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(6, b, kLine);
    _tile_dpbf16ps(1, 4, 7);
    _tile_stream_loadd(4, panel + order.position() * kTileBytes, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    half_step(ahead);
  }
  half_step(ahead);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  half_step(ahead);
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
}

inline void sums_of_pair(const GemmArgs& g, float* second) noexcept {
  if (g.accumulate) {
    _tile_loadd(0, g.acc, kAccStride);
    _tile_loadd(1, g.acc + 16, kAccStride);
    _tile_loadd(2, second, kAccStride);
    _tile_loadd(3, second + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
}

// One row tile and two stripes.
template <class Ahead>
inline void pair_of_stripes(const GemmArgs& g, Order order, Ahead ahead) noexcept {
  const auto* panel = static_cast<const std::byte*>(g.panel);
  const auto* stripe = static_cast<const std::byte*>(g.stripe);
  float* second = g.acc + g.stripe_acc;
  sums_of_pair(g, second);
  _tile_stream_loadd(4, panel, kLine);
  _tile_loadd(6, stripe, kLine);
  _tile_loadd(7, stripe + kTileBytes, kLine);
  const std::byte* b = stripe + g.stripe_bytes;
  for (std::int64_t left = g.depth / kDepthUnit - 1; left > 0; --left) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(6, b, kLine);
    ahead.step();
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    ahead.step();
    order.advance();
    b = stripe + order.position() * kStepBytes;
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(6, b, kLine);
    ahead.step();
    _tile_dpbf16ps(3, 4, 7);
    _tile_stream_loadd(4, panel + order.position() * kTileBytes, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    ahead.step();
    b += g.stripe_bytes;
  }
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(6, b, kLine);
  ahead.step();
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(7, b + kTileBytes, kLine);
  ahead.step();
  _tile_dpbf16ps(2, 4, 6);
  ahead.step();
  _tile_dpbf16ps(3, 4, 7);
  ahead.step();
  _tile_stored(0, g.acc, kAccStride);
  _tile_stored(1, g.acc + 16, kAccStride);
  _tile_stored(2, second, kAccStride);
  _tile_stored(3, second + 16, kAccStride);
}

inline std::int64_t num_row_tiles(const GemmArgs& g) noexcept {
  return (g.rows + g.tile_rows - 1) / g.tile_rows;
}

// All rows take `most_steps` of the stripe, then all the next.
template <class Ahead>
inline void all_rows(const GemmArgs& g, const Order& order, std::int64_t most_steps,
                     Ahead ahead) noexcept {
  const std::int64_t row_tiles = num_row_tiles(g);
  const std::int64_t tile_bytes = g.panel_stride * 2;
  const auto* panel = static_cast<const std::byte*>(g.panel);
  Run run{static_cast<const std::byte*>(g.stripe), order, 0, g.accumulate};
  float* in_tiles = nullptr;  // where the sums belong that tiles still hold
  const auto empty_tiles = [&] {
    if (in_tiles != nullptr) store_pair(in_tiles);
    in_tiles = nullptr;
  };
  for (std::int64_t left = g.depth / kDepthUnit; left > 0; left -= run.steps) {
    run.steps = left < most_steps ? left : most_steps;
    const std::byte* a = panel;
    float* acc = g.acc;
    std::int64_t tile = 0;
    for (; tile + 2 <= row_tiles; tile += 2) {
      if (acc == in_tiles) empty_tiles();
      pair_of_row_tiles(run, a, tile_bytes, acc, in_tiles, ahead);
      in_tiles = acc;
      a += 2 * tile_bytes;
      acc += 2 * kSecondTile;
    }
    if (tile < row_tiles) {
      empty_tiles();
      single_row_tile(run, a, acc, ahead);
    }
    run.order.advance(run.steps);
    run.accumulate = true;
  }
  empty_tiles();
}

}  // namespace

void amx_begin(std::int64_t tile_rows) noexcept {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes_per_row[tile] = kLine;
    config.rows[tile] = static_cast<std::uint8_t>(tile < 6 ? tile_rows : kTileRows);
  }
  load_tile_config(config);
}

void amx_end() noexcept {
  _mm_sfence();  // what was written past the caches, before other threads read it
  _tile_release();
}

static void one_by_one(const GemmArgs& pair) noexcept {
  GemmArgs one = pair;
  one.stripes = 1;
  one.prefetch = static_cast<const std::byte*>(pair.stripe) + pair.stripe_bytes;
  gemm_bf16_bf16_amx_bf16(one);
  one.stripe = one.prefetch;
  one.acc += pair.stripe_acc;
  one.prefetch = pair.prefetch;
  gemm_bf16_bf16_amx_bf16(one);
}

void gemm_bf16_bf16_amx_bf16(const GemmArgs& g) noexcept {
  using Pair = PairAhead<2 * kStepLines / kPlaces>;
  const std::int64_t steps = g.depth / kDepthUnit;
  const std::int64_t row_tiles = num_row_tiles(g);
  const std::int64_t passes = (row_tiles + 1) / 2;
  const Order order(steps);
  if (g.stripes == 2 && Pair::streams_of(order) == 0) return one_by_one(g);
  fence();
  if (g.stripes == 2) {
    pair_of_stripes(g, order, Pair(g, order));
  } else if (passes == 1) {
    all_rows(g, order, steps, RoundAhead<kStepLines / kPlaces>(g, order));
  } else if (passes == 2) {
    all_rows(g, order, order.streams(), RoundAhead<kStepLines / kPlaces / 2>(g, order));
  } else {
    all_rows(g, order, kChunkSteps, Prefetcher(g, passes * steps * kPlaces));
  }
  fence();
}

}  // namespace switchyard::gemm
