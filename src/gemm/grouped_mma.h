#pragma once

#include "gemm/grouped_end.h"
#include "gemm/mma_layout.h"
#include "gemm/tensor_core.h"

// The grouped product with cp.async, ldmatrix and mma.sync.m16n8k16 (sm_80 and later).
//
// A CTA is persistent and reads its tiles' operands as one stream of steps of 64 in depth: the
// loads run `stages` - 1 steps ahead of the products and go on into the next tile while the last
// one's sums are stored, so a tile costs no start-up. Rows are gathered by the loads themselves.
//
//   tile     warps  sums a lane  stage   stages  shared   flop per byte into shared memory
//   16x64    1x1x4   32          10 KiB  8        92 KiB  13, bound by memory: 2 CTAs on H100's SMs
//                                                         keep 140 KiB of loads in flight
//   64x128   2x2x1   64          24 KiB  3        72 KiB  43, 2 CTAs on an SM
//   128x256  2x4x1  128          48 KiB  3       144 KiB  85, 1 CTA on an SM: A100 has 312 TFLOP/s
//                                                         for some 5 TB/s from L2, 62 a byte
// Fragments add 16 (rows) + 4 (columns) registers a lane to the sums. A warp of 64 x 64 reads
// 4 KiB of fragments for 131072 flop, half of what shared memory delivers in that time.
// Tiles of few rows share the depth among 4 warps, so that 64 columns make a CTA: twice the CTAs
// that 128 columns would give when a token meets a handful of experts.
//
// Sums are in f32 and in one order, whatever the schedule: the same bits every run.

namespace switchyard::gemm {

template <int rows, int columns, int warps_m, int warps_n, int warps_k, int stages>
struct MmaShape {
  static constexpr int kRows = rows;
  static constexpr int kColumns = columns;
  static constexpr int kWarpsM = warps_m;
  static constexpr int kWarpsN = warps_n;
  static constexpr int kWarpsK = warps_k;
  static constexpr int kStages = stages;
  static constexpr int kThreads = 32 * warps_m * warps_n * warps_k;
  static constexpr int kRowTiles = rows / warps_m / 16;  // of a warp
  static constexpr int kLaneSums = kRowTiles * 32;
  static_assert(columns / warps_n == kPackedBlock);
};
using FewShape = MmaShape<16, 64, 1, 1, 4, 8>;
using SomeShape = MmaShape<64, 128, 2, 2, 1, 3>;
using ManyShape = MmaShape<128, 256, 2, 4, 1, 3>;

/// A thread's part in reading the rows of tiles: chunk `thread` mod 8 of every (threads / 8)-th
/// row.
template <class Shape>
struct RowLoads {
  static constexpr int kStep = Shape::kThreads / kChunks;
  static constexpr int kCount = Shape::kRows / kStep;
  static_assert(kCount >= 1 && Shape::kRows % kStep == 0);

  const std::byte* from[kCount] = {};  // null beyond the tile's rows

  SWITCHYARD_DEVICE void start(const GroupedArgs& args, const Tile& tile, int thread) noexcept {
    const std::int64_t begin = args.expert_begin[tile.expert] + tile.row;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int r = thread / kChunks + i * kStep;
      from[i] = nullptr;
      if (r >= tile.rows) continue;
      const std::int64_t row =
          args.token_of_row != nullptr ? args.token_of_row[begin + r] : begin + r;
      from[i] = args.in + row * args.in_row_bytes + thread % kChunks * kChunkBytes;
    }
  }

  SWITCHYARD_DEVICE void issue(CopyQueue& queue, const GroupedArgs& args, SharedAddress to,
                               int step, int thread) const noexcept {
    const std::int64_t offset = static_cast<std::int64_t>(step) * kRowBytes;
    const bool in_depth = offset + thread % kChunks * kChunkBytes < args.depth * 2;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int r = thread / kChunks + i * kStep;
      const bool exists = in_depth && from[i] != nullptr;
      queue.copy(to + swizzled(r, thread % kChunks), exists ? from[i] + offset : args.in, exists);
    }
  }
};

/// Weights of 16 bits, [E, packed_columns, depth].
template <class T, class Shape>
struct DenseColumns {
  static constexpr int kStep = Shape::kThreads / kChunks;
  static constexpr int kCount = Shape::kColumns / kStep;
  static constexpr int kStageBytes = Shape::kColumns * kRowBytes;

  const std::byte* from = nullptr;  // the thread's first chunk
  int left = 0;                     // columns from its first one to the end of the matrix

  SWITCHYARD_DEVICE void start(const GroupedArgs& args, const Tile& tile, int thread) noexcept {
    const std::int64_t column =
        static_cast<std::int64_t>(tile.column_tile) * Shape::kColumns + thread / kChunks;
    from = args.weights + (tile.expert * args.packed_columns + column) * args.depth * 2 +
           thread % kChunks * kChunkBytes;
    const std::int64_t beyond = args.packed_columns - column;
    left = static_cast<int>(beyond < Shape::kColumns ? beyond : Shape::kColumns);
  }

  SWITCHYARD_DEVICE void issue(CopyQueue& queue, const GroupedArgs& args, SharedAddress to,
                               int step, int thread) const noexcept {
    const std::int64_t offset = static_cast<std::int64_t>(step) * kRowBytes;
    const bool in_depth = offset + thread % kChunks * kChunkBytes < args.depth * 2;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const bool exists = in_depth && i * kStep < left;
      queue.copy(to + swizzled(thread / kChunks + i * kStep, thread % kChunks),
                 exists ? from + offset + i * kStep * args.depth * 2 : args.weights, exists);
    }
  }

  /// Adds the products of one step: rows at `a`, columns at `b`, of this warp.
  SWITCHYARD_DEVICE static void multiply(const GroupedArgs&, SharedAddress a, SharedAddress b,
                                         int warp_row, int warp_column, int first_slice,
                                         float (&sums)[Shape::kRowTiles][8][4]) noexcept {
    const int lane = simt::lane_index();
    const RowColumn at_a = a_address(lane), at_b = b_address(lane);
    SWITCHYARD_UNROLL
    for (int slice = 0; slice < kTileDepth / 16; slice += Shape::kWarpsK) {
      const int chunk = (first_slice + slice) * 2;
      std::uint32_t rows[Shape::kRowTiles][4];
      SWITCHYARD_UNROLL
      for (int m = 0; m < Shape::kRowTiles; ++m) {
        ldmatrix(a + swizzled(warp_row + m * 16 + at_a.row, chunk + at_a.column), rows[m]);
      }
      SWITCHYARD_UNROLL
      for (int pair = 0; pair < 4; ++pair) {
        std::uint32_t columns[4];
        ldmatrix(b + swizzled(warp_column + pair * 16 + at_b.row, chunk + at_b.column), columns);
        SWITCHYARD_UNROLL
        for (int m = 0; m < Shape::kRowTiles; ++m) {
          mma<T>(sums[m][pair * 2], rows[m], columns[0], columns[1]);
          mma<T>(sums[m][pair * 2 + 1], rows[m], columns[2], columns[3]);
        }
      }
    }
  }
};

/// Shared memory: stages (rows, then columns), the sums of warps that share a depth, the schedule.
template <class Shape, class Columns>
struct MmaMemory {
  static constexpr int kRowStage = Shape::kRows * kRowBytes;
  static constexpr int kStage = kRowStage + Columns::kStageBytes;
  static constexpr int kSums = Shape::kStages * kStage;
  static constexpr int kSchedule = kSums + (Shape::kWarpsK - 1) * Shape::kLaneSums * 32 * 4;
  static constexpr int bytes(int num_experts) {
    return kSchedule + (num_experts + 1 + Shape::kThreads) * 4;
  }
};

/// The stream of a CTA's loads, `stages` - 1 steps ahead of its products.
template <class Shape, class Columns>
struct MmaLoads {
  RowLoads<Shape> rows;
  Columns columns;
  std::int64_t tile = 0;
  int step = 0;
  int slot = 0;

  SWITCHYARD_DEVICE void issue(CopyQueue& queue, const GroupedArgs& args, SharedAddress stages,
                               const std::int32_t* tiles_begin, std::int64_t tiles,
                               int steps) noexcept {
    if (tile < tiles) {
      if (step == 0) {
        const Tile at = tile_at(args.grid, tiles_begin, args.expert_rows, tile);
        rows.start(args, at, simt::thread_index());
        columns.start(args, at, simt::thread_index());
      }
      using Memory = MmaMemory<Shape, Columns>;
      const SharedAddress to = stages + slot * Memory::kStage;
      rows.issue(queue, args, to, step, simt::thread_index());
      columns.issue(queue, args, to + Memory::kRowStage, step, simt::thread_index());
      if (++step == steps) {
        step = 0;
        tile += simt::num_blocks();
      }
    }
    queue.commit();  // an empty group too: waits count groups
    slot = slot + 1 == Shape::kStages ? 0 : slot + 1;
  }
};

/// Adds the sums of the warps that shared a depth to those of the first, in the warps' order.
/// The caller's barriers keep the next call from overwriting what this one still reads.
template <class Shape>
SWITCHYARD_DEVICE void add_shared_sums(float* shared, int warp_k,
                                       float (&sums)[Shape::kRowTiles][8][4]) noexcept {
  const int lane = simt::lane_index();
  const auto each = [&](auto&& f) {
    SWITCHYARD_UNROLL
    for (int m = 0; m < Shape::kRowTiles; ++m) {
      SWITCHYARD_UNROLL
      for (int i = 0; i < 32; ++i) f((m * 32 + i) * 32 + lane, sums[m][i / 4][i % 4]);
    }
  };
  if (warp_k > 0) {
    float* own = shared + (warp_k - 1) * Shape::kLaneSums * 32;
    each([&](int at, float& sum) { own[at] = sum; });
  }
  simt::sync_threads();
  if (warp_k > 0) return;
  for (int other = 0; other < Shape::kWarpsK - 1; ++other) {
    const float* from = shared + other * Shape::kLaneSums * 32;
    each([&](int at, float& sum) { sum += from[at]; });
  }
}

template <class T, class Shape>
SWITCHYARD_DEVICE void store_sums(const GroupedArgs& args, const Tile& tile, int warp_row,
                                  int warp_column,
                                  const float (&sums)[Shape::kRowTiles][8][4]) noexcept {
  const std::int64_t column =
      static_cast<std::int64_t>(tile.column_tile) * Shape::kColumns + warp_column;
  if (column >= args.packed_columns) return;
  const std::int64_t begin = args.expert_begin[tile.expert] + tile.row;
  SWITCHYARD_UNROLL
  for (int m = 0; m < Shape::kRowTiles; ++m) {
    SWITCHYARD_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int r = warp_row + m * 16 + half * 8 + simt::lane_index() / 4;
      if (r >= tile.rows) continue;
      float values[8][2];
      SWITCHYARD_UNROLL
      for (int i = 0; i < 16; ++i) values[i / 2][i % 2] = sums[m][i / 2][half * 2 + i % 2];
      finish_block<T>(args, args.out + (begin + r) * args.out_row_bytes, column / kPackedBlock,
                      simt::lane_index(), values);
    }
  }
}

/// The kernel; `shared` has MmaMemory::bytes.
template <class T, class Shape, class Columns>
SWITCHYARD_DEVICE void grouped_mma(const GroupedArgs& args, std::byte* shared) noexcept {
  using Memory = MmaMemory<Shape, Columns>;
  auto* tiles_begin = reinterpret_cast<std::int32_t*>(shared + Memory::kSchedule);
  make_tiles_begin(args.grid, args.expert_rows, simt::thread_index(), Shape::kThreads, tiles_begin,
                   tiles_begin + args.grid.num_experts + 1, [&] { simt::sync_threads(); });
  const std::int64_t tiles = num_tiles(args.grid, tiles_begin);
  const auto steps = static_cast<int>((args.depth + kTileDepth - 1) / kTileDepth);

  const int warp = simt::thread_index() / 32;
  const int warp_k = warp % Shape::kWarpsK;
  const int warp_column = warp / Shape::kWarpsK % Shape::kWarpsN * kPackedBlock;
  const int warp_row = warp / (Shape::kWarpsK * Shape::kWarpsN) * Shape::kRowTiles * 16;

  const SharedAddress stages = shared_address(shared);
  CopyQueue queue;
  MmaLoads<Shape, Columns> loads;
  loads.tile = simt::block_index();
  for (int s = 0; s < Shape::kStages - 1; ++s) {
    loads.issue(queue, args, stages, tiles_begin, tiles, steps);
  }

  int slot = 0;
  for (std::int64_t tile = simt::block_index(); tile < tiles; tile += simt::num_blocks()) {
    float sums[Shape::kRowTiles][8][4] = {};
    for (int step = 0; step < steps; ++step) {
      queue.wait<Shape::kStages - 2>();
      simt::sync_threads();  // the step is here for all, and all are done with the slot filled next
      loads.issue(queue, args, stages, tiles_begin, tiles, steps);
      const SharedAddress at = stages + slot * Memory::kStage;
      Columns::multiply(args, at, at + Memory::kRowStage, warp_row, warp_column, warp_k, sums);
      slot = slot + 1 == Shape::kStages ? 0 : slot + 1;
    }
    if constexpr (Shape::kWarpsK > 1) {
      add_shared_sums<Shape>(reinterpret_cast<float*>(shared + Memory::kSums), warp_k, sums);
      if (warp_k > 0) continue;
    }
    store_sums<T, Shape>(args, tile_at(args.grid, tiles_begin, args.expert_rows, tile), warp_row,
                         warp_column, sums);
  }
}

}  // namespace switchyard::gemm
