#include <immintrin.h>

#include "gemm/prefetch.h"
#include "gemm/quant_kernel.h"
#include "gemm/tile_config.h"

// The block of kernel_x86_amx_bf16.cc with bytes: 64 of depth a tile, so twice its work a cycle for
// the same tile loads, and a chunk of 1024 of depth is 32 KiB of weights in L1 while all rows pass
// by, their tiles loaded without being kept there. Activations are signed, codes unsigned. (Every
// CPU with AMX-BF16 has AMX-INT8.) Rows of the panel lie whole, panel_stride apart: 16 lines a tile
// like a packed one, as fast, and rows between up and down need no packing.
//
//   tiles  0-3 sums of 32 x 32, 4-5 activations, 6-7 weights; loaded in any order: they are renamed
//   L1     chunk of weights 32 KiB, sums of the pair before 4 KiB
//   L2     panel, the next stripes, sums between chunks (4 KiB a pair out and in)
//
// L2 is the limit, so sums of the last chunk do not go there: a pair's stay in their tiles until
// the first step of the next pair, which stores each tile just before it uses it (stored after the
// block they cost 75 cycles, so 1), and are finished from L1 beside the next steps, two rows a
// step. A step of 64 cycles takes 64 vector instructions beside it for nothing. Chunks are taken
// forward and backward in turn, so that the pair at a turn goes on in its tiles.
//
// One core, 512 rows, weights from memory, microseconds a stripe (arithmetic is 15.0 and 7.5):
//
//                                                 depth 2048, gated    depth 1024, store
//   products, sums scaled to f32 in L2            18.5                 8.9
//   and then the epilogue over two stripes        27.3                 11.1
//   finished here, output through the caches      25.7
//   finished here, output past the caches         21.6                 9.7
//
// 1, 2, 3 rows a step: 26.5, 24.9, 25.0 (with quantising). Prefetches lie evenly between products.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kAccStride = kStripeColumns * 4;
constexpr std::int64_t kLine = 64;
constexpr std::int64_t kChunkDepth = 1024;
constexpr int kPlaces = 4;             // in a step, where lines are asked for
constexpr std::int64_t kFewRows = 64;  // up to which reading the weights twice costs less

// Depths [k_begin, k_end) onto what earlier ones left in acc.
struct Chunk {
  std::int64_t k_begin, k_end;
  std::int64_t stride;
  const std::byte* weights;
};

// The finish of a call without one: to f32, into acc.
void scale_rows(const QuantArgs& q, const float* sums, std::int64_t row,
                std::int64_t rows) noexcept {
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
  const __m512 first = _mm512_loadu_ps(scales), second = _mm512_loadu_ps(scales + 16);
  float* acc = q.acc + row * kStripeColumns;
  for (const std::int64_t end = row + rows; row < end; ++row) {
    const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * q.row_sums[row * q.sums_stride]);
    const __m512 t = _mm512_set1_ps(q.row_scale[row]);
    const __m512i a = _mm512_add_epi32(_mm512_load_si512(sums), zero);
    const __m512i b = _mm512_add_epi32(_mm512_load_si512(sums + 16), zero);
    _mm512_store_ps(acc, _mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(first, t)));
    _mm512_store_ps(acc + 16, _mm512_mul_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(second, t)));
    sums += kStripeColumns;
    acc += kStripeColumns;
  }
}

// Sums of rows that wait to be finished, two a step.
class Waiting {
 public:
  Waiting() noexcept = default;
  Waiting(const QuantArgs& q, float* sums, std::int64_t row, std::int64_t rows) noexcept
      : q_(&q),
        run_(q.finish != nullptr ? q.finish->run : scale_rows),
        sums_(sums),
        row_(row),
        end_(row + rows) {}

  float* sums() const noexcept { return sums_; }
  inline void step() noexcept {
    if (row_ < end_) finish(end_ - row_ < 2 ? 1 : 2);
  }
  inline void all() noexcept {
    if (row_ < end_) finish(end_ - row_);
  }

 private:
  inline void finish(std::int64_t rows) noexcept {
    run_(*q_, sums_, row_, rows);
    sums_ += rows * kStripeColumns;
    row_ += rows;
  }

  const QuantArgs* q_ = nullptr;
  FinishFn run_ = nullptr;
  float* sums_ = nullptr;
  std::int64_t row_ = 0, end_ = 0;
};

inline void store_pair(float* acc) noexcept {
  float* acc1 = acc + kTileRows * kStripeColumns;
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, acc1, kAccStride);
  _tile_stored(3, acc1 + 16, kAccStride);
}

// One product of a pair's first step. Unless the tile goes on with the same sums, stores what it
// holds from before and begins it anew, with the sums of earlier depth when there are such.
#define SWITCHYARD_FIRST_PRODUCT(tile, at, activations, weights)          \
  do {                                                                    \
    if (before != nullptr) _tile_stored(tile, before + (at), kAccStride); \
    if (acc == nullptr) {                                                 \
    } else if (chunk.k_begin > 0) {                                       \
      _tile_stream_loadd(tile, acc + (at), kAccStride);                   \
    } else {                                                              \
      _tile_zero(tile);                                                   \
    }                                                                     \
    _tile_dpbsud(tile, activations, weights);                             \
    prefetcher.step();                                                    \
  } while (false)

// Leaves the sums in tiles 0 to 3, stores those of the pair before, and finishes it. Without acc
// the tiles hold this pair's sums of earlier depth.
inline void pair_of_row_tiles(const Chunk& chunk, const std::int8_t* a, const float* acc,
                              float* before, Waiting waiting, Prefetcher& prefetcher) noexcept {
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
    prefetcher.step();
    _tile_dpbsud(1, 4, 7);
    _tile_stream_loadd(4, a, stride);
    prefetcher.step();
    waiting.step();
    _tile_dpbsud(2, 5, 6);
    _tile_loadd(6, b, kLine);
    prefetcher.step();
    _tile_dpbsud(3, 5, 7);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_stream_loadd(5, a1, stride);
    prefetcher.step();
  }
  if (steps > 1) {
    _tile_dpbsud(0, 4, 6);
    prefetcher.step();
    _tile_dpbsud(1, 4, 7);
    prefetcher.step();
    _tile_dpbsud(2, 5, 6);
    prefetcher.step();
    _tile_dpbsud(3, 5, 7);
    prefetcher.step();
  }
  waiting.all();
  fence();
}

#undef SWITCHYARD_FIRST_PRODUCT

inline void whole_step(Prefetcher& prefetcher) noexcept {
  for (int place = 0; place < kPlaces; ++place) prefetcher.step();
}

inline void single_row_tile(const Chunk& chunk, const std::int8_t* a, const float* acc, float* sums,
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
    whole_step(prefetcher);
    a += 2 * kQuantDepthUnit;
    b += 4 * kTileBytes;
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, kLine);
    _tile_loadd(7, b + kTileBytes, kLine);
    _tile_dpbsud(0, 5, 2);
    _tile_dpbsud(1, 5, 3);
    whole_step(prefetcher);
  }
  _tile_dpbsud(0, 4, 6);
  _tile_dpbsud(1, 4, 7);
  whole_step(prefetcher);
  if (left == 2) {
    _tile_loadd(4, a + kQuantDepthUnit, stride);
    _tile_loadd(6, b + 2 * kTileBytes, kLine);
    _tile_loadd(7, b + 3 * kTileBytes, kLine);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    whole_step(prefetcher);
  }
  _tile_stored(0, sums, kAccStride);
  _tile_stored(1, sums + 16, kAccStride);
}

}  // namespace

void quant_int8_amx_bf16(const QuantArgs& q) noexcept {
  constexpr std::int64_t kPairRows = 2 * kTileRows;
  const std::int64_t depth = q.k_end - q.k_begin;
  const std::int64_t chunk_depth = q.rows <= kFewRows ? depth : kChunkDepth;
  const std::int64_t pairs = (q.rows + kPairRows - 1) / kPairRows;
  Prefetcher prefetcher(q.prefetch, pairs * (depth / kQuantDepthUnit) * kPlaces);
  fence();
  auto* buffer = reinterpret_cast<float*>(q.scratch);
  Waiting in_tiles;  // where the sums in tiles belong, and the rows to be finished then
  const auto empty_tiles = [&] {
    if (in_tiles.sums() == nullptr) return;
    store_pair(in_tiles.sums());
    fence();
    in_tiles.all();
    in_tiles = {};
  };
  bool backward = false;
  for (std::int64_t k = q.k_begin; k < q.k_end; k += chunk_depth, backward = !backward) {
    const std::int64_t end = k + chunk_depth < q.k_end ? k + chunk_depth : q.k_end;
    const Chunk chunk{k, end, q.panel_stride, q.stripe + k * kStripeColumns};
    for (std::int64_t i = 0; i < pairs; ++i) {
      const std::int64_t r = (backward ? pairs - 1 - i : i) * kPairRows;
      const std::int64_t rows = q.rows - r < kPairRows ? q.rows - r : kPairRows;
      const std::int8_t* a = q.panel + r * q.panel_stride + k;
      float* acc = q.acc + r * kStripeColumns;
      Waiting waiting = end == q.depth ? Waiting(q, buffer, r, rows) : Waiting(q, acc, r, 0);
      if (rows > kTileRows) {
        const bool goes_on = in_tiles.sums() == acc;
        pair_of_row_tiles(chunk, a, goes_on ? nullptr : acc, goes_on ? nullptr : in_tiles.sums(),
                          goes_on ? Waiting() : in_tiles, prefetcher);
        in_tiles = waiting;
      } else {
        empty_tiles();
        single_row_tile(chunk, a, acc, waiting.sums(), prefetcher);
        fence();
        waiting.all();
      }
    }
  }
  empty_tiles();
}

}  // namespace switchyard::gemm
