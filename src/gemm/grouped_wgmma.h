#pragma once

#include "gemm/grouped_end.h"
#include "gemm/grouped_mma.h"
#include "gemm/hopper.h"

// The grouped product of sm_90a: tiles of 128 x 256, 64 deep a step, by three warpgroups.
//
//   producer   TMA brings the 256 columns of weights (one thread asks for them), cp.async gathers
//              the 128 rows (8 chunks of 16 bytes a thread), in a ring of stages
//   consumers  two, each wgmma.m64n256k16 on 64 rows and all columns, and the end of its tile
//
// Shared memory: 16 KiB of rows and 32 KiB of columns a stage, 4 stages: 192 KiB, one CTA on an SM.
// Registers: 40 a thread for the producer, 232 for consumers (128 of them sums), by setmaxnreg from
// 168: 128 * 40 + 256 * 232 = 64512 of 65536. A step is 4.2 Mflop for 48 KiB, 85 flop a byte: 990
// TFLOP/s of an H200 would want 11 TB/s out of L2, which gives some 6, so rows of a band that run
// together are what a cluster with multicast would share next.
//
// Full barriers: 128 arrivals of producer threads whose copies have landed, one with the bytes TMA
// is to bring. Gathered rows are announced kLag steps after they were asked for, so that three
// steps of copies are under way. Empty barriers: one arrival of each of 8 consumer warps.

namespace switchyard::gemm {

struct WideShape {
  static constexpr int kRows = 128;
  static constexpr int kColumns = 256;
  static constexpr int kStages = 4;
  static constexpr int kThreads = 128;  // that load rows
  static constexpr int kAllThreads = 384;
  static constexpr int kLag = 2;
};

struct WideMemory {
  static constexpr int kRowStage = WideShape::kRows * kRowBytes;
  static constexpr int kColumnStage = WideShape::kColumns * kRowBytes;
  static constexpr int kStage = kRowStage + kColumnStage;
  static constexpr int kBarriers = WideShape::kStages * kStage;
  static constexpr int kSchedule = kBarriers + WideShape::kStages * 16;
  static constexpr int kAlignment = 1024;  // of the swizzle's pattern
  static constexpr int bytes(int num_experts) {
    return kSchedule + (num_experts + 1 + WideShape::kAllThreads) * 4 + kAlignment;
  }
};

struct WideArgs {
  TensorMap weights;  ///< [E, packed_columns, depth] in boxes of 256 x 64, swizzled
  GroupedArgs product;
};

/// The stages as both sides go through them.
struct WideRing {
  SharedAddress base;
  int slot = 0;
  int parity = 0;

  SWITCHYARD_DEVICE SharedAddress rows(int s) const { return base + s * WideMemory::kStage; }
  SWITCHYARD_DEVICE SharedAddress columns(int s) const { return rows(s) + WideMemory::kRowStage; }
  SWITCHYARD_DEVICE Barrier full(int s) const { return {base + WideMemory::kBarriers + s * 8}; }
  SWITCHYARD_DEVICE Barrier empty(int s) const {
    return {base + WideMemory::kBarriers + (WideShape::kStages + s) * 8};
  }
  SWITCHYARD_DEVICE void advance() {
    if (++slot == WideShape::kStages) {
      slot = 0;
      parity ^= 1;
    }
  }
  /// The slot of `steps` steps ago, at most a turn.
  SWITCHYARD_DEVICE int before(int steps) const {
    return (slot + WideShape::kStages - steps) % WideShape::kStages;
  }
};

SWITCHYARD_DEVICE void produce(const WideArgs& args, WideRing ring, const std::int32_t* tiles_begin,
                               std::int64_t tiles, int steps) noexcept {
  const GroupedArgs& product = args.product;
  const int thread = simt::thread_index();
  CopyQueue queue;
  RowLoads<WideShape> rows;
  int under_way = 0;
  for (std::int64_t t = simt::block_index(); t < tiles; t += simt::num_blocks()) {
    const Tile tile = tile_at(product.grid, tiles_begin, product.expert_rows, t);
    rows.start(product, tile, thread);
    for (int step = 0; step < steps; ++step) {
      ring.empty(ring.slot).wait(ring.parity ^ 1);
      if (thread == 0) {
        ring.full(ring.slot).arrive_expecting(WideMemory::kColumnStage);
        copy_box(ring.columns(ring.slot), args.weights, step * kTileDepth,
                 tile.column_tile * WideShape::kColumns, tile.expert, ring.full(ring.slot));
      }
      rows.issue(queue, product, ring.rows(ring.slot), step, thread);
      queue.commit();
      if (under_way == WideShape::kLag) {
        queue.wait<WideShape::kLag>();
        fence_async_proxy();
        ring.full(ring.before(WideShape::kLag)).arrive();
      } else {
        ++under_way;
      }
      ring.advance();
    }
  }
  queue.wait<0>();
  fence_async_proxy();
  for (; under_way > 0; --under_way) ring.full(ring.before(under_way)).arrive();
}

template <class T>
SWITCHYARD_DEVICE void store_wide(const GroupedArgs& args, const Tile& tile, int warp_row,
                                  const float (&sums)[kWideSums]) noexcept {
  const std::int64_t begin = args.expert_begin[tile.expert] + tile.row;
  const std::int64_t first =
      static_cast<std::int64_t>(tile.column_tile) * (WideShape::kColumns / kPackedBlock);
  SWITCHYARD_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int r = warp_row + half * 8 + simt::lane_index() / 4;
    if (r >= tile.rows) continue;
    std::byte* row = args.out + (begin + r) * args.out_row_bytes;
    SWITCHYARD_UNROLL
    for (int block = 0; block < WideShape::kColumns / kPackedBlock; ++block) {
      float values[8][2];
      SWITCHYARD_UNROLL
      for (int i = 0; i < 16; ++i) {
        values[i / 2][i % 2] = sums[(block * 8 + i / 2) * 4 + half * 2 + i % 2];
      }
      finish_block<T>(args, row, first + block, simt::lane_index(), values);
    }
  }
}

template <class T>
SWITCHYARD_DEVICE void consume(const GroupedArgs& args, WideRing ring,
                               const std::int32_t* tiles_begin, std::int64_t tiles,
                               int steps) noexcept {
  const int warp = simt::thread_index() / 32 - 4;  // of the consumers'
  const int group_row = warp / 4 * 64;
  ProductQueue queue(ring.base);
  const auto release = [&](int slot) {
    if (simt::lane_index() == 0) ring.empty(slot).arrive();
  };
  for (std::int64_t t = simt::block_index(); t < tiles; t += simt::num_blocks()) {
    float sums[kWideSums] = {};
    for (int step = 0; step < steps; ++step) {
      ring.full(ring.slot).wait(ring.parity);
      const std::uint64_t a = matrix_descriptor(
          descriptor_address(ring.rows(ring.slot) + group_row * kRowBytes, ring.base));
      const std::uint64_t b =
          matrix_descriptor(descriptor_address(ring.columns(ring.slot), ring.base));
      queue.begin();
      SWITCHYARD_UNROLL
      for (int slice = 0; slice < kTileDepth / 16; ++slice) {
        queue.multiply<T>(sums, a + slice * kDescriptorSlice, b + slice * kDescriptorSlice);
      }
      queue.commit();
      queue.wait<1>(sums);
      if (step > 0) release(ring.before(1));
      ring.advance();
    }
    queue.wait<0>(sums);
    release(ring.before(1));
    store_wide<T>(args, tile_at(args.grid, tiles_begin, args.expert_rows, t), warp * 16, sums);
  }
}

/// The kernel; `shared` has WideMemory::bytes.
template <class T>
SWITCHYARD_DEVICE void grouped_wgmma(const WideArgs& args, std::byte* shared) noexcept {
  shared += -reinterpret_cast<std::uintptr_t>(shared) % WideMemory::kAlignment;
  const TileGrid& grid = args.product.grid;
  auto* tiles_begin = reinterpret_cast<std::int32_t*>(shared + WideMemory::kSchedule);
  const WideRing ring{shared_address(shared)};
  if (simt::thread_index() == 0) {
    for (int s = 0; s < WideShape::kStages; ++s) {
      ring.full(s).init(WideShape::kThreads + 1);
      ring.empty(s).init(8);
    }
    fence_async_proxy();
  }
  // Its barriers also tell all threads that those above are ready.
  make_tiles_begin(grid, args.product.expert_rows, simt::thread_index(), WideShape::kAllThreads,
                   tiles_begin, tiles_begin + grid.num_experts + 1, [] { simt::sync_threads(); });
  const std::int64_t tiles = num_tiles(grid, tiles_begin);
  const auto steps = static_cast<int>((args.product.depth + kTileDepth - 1) / kTileDepth);
  if (simt::thread_index() < WideShape::kThreads) {
    drop_registers<40>();
    produce(args, ring, tiles_begin, tiles, steps);
  } else {
    take_registers<232>();
    consume<T>(args.product, ring, tiles_begin, tiles, steps);
  }
}

}  // namespace switchyard::gemm
