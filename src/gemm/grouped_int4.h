#pragma once

#include "gemm/grouped_mma.h"
#include "gemm/int4_layout.h"

// The columns of grouped_mma.h as int4 weights. Codes stay integers up to the product, which is
// exact in bf16 and f16 (|u - zero| <= 15); the f32 sums of each 32 in depth are scaled once and
// added. So activations keep their 16 bits and weights lose nothing.
//
//   tile     warps  stage         stages  shared
//   16x64    1x1x4   2 + 2.4 KiB  8        47 KiB
//   64x128   2x2x1   8 + 4.8 KiB  4        51 KiB
//   128x128  4x2x1  16 + 4.8 KiB  4        83 KiB, warps of 32 x 64: those of 64 x 64 spill
//
// A lane turns 8 codes into 4 registers of two with 4 shifts, 4 lop3 and 4 fma: 1.5 instructions a
// weight. At 4.8 TB/s an H200's SM gets 39 weights a clock, 59 of the 128 instructions it issues.

namespace switchyard::gemm {

using Int4SomeShape = MmaShape<64, 128, 2, 2, 1, 4>;
using Int4ManyShape = MmaShape<128, 128, 4, 2, 1, 4>;

/// What makes a 16-bit element of the integer 128 or 1024 plus a code, and takes that and the zero
/// point off again. `bias` is minus (the integer + zero) in both halves of a register.
template <class T>
struct CodeBits;
template <>
struct CodeBits<bf16> {
  static constexpr std::uint32_t kBase = 0x43004300;  // 128: steps of 1
  static constexpr std::uint32_t kOne = 0x3f803f80;
};
template <>
struct CodeBits<f16> {
  static constexpr std::uint32_t kBase = 0x64006400;  // 1024: steps of 1
  static constexpr std::uint32_t kOne = 0x3c003c00;
};
template <class T>
SWITCHYARD_DEVICE std::uint32_t bias_of(std::uint32_t zero) {
  return CodeBits<T>::kBase | 0x80008000u | zero * 0x00010001u;
}

template <class T, class Shape>
struct Int4Columns {
  static constexpr int kRecords = Shape::kColumns / kRecordColumns;
  static constexpr int kStageBytes = kRecords * kMostRecordBytes;
  static constexpr int kMostChunks = kMostRecordBytes / kChunkBytes;
  static constexpr int kCount = (kRecords * kMostChunks + Shape::kThreads - 1) / Shape::kThreads;

  const std::byte* from[kCount] = {};  // the thread's chunks at step 0; null: none
  std::int32_t to[kCount] = {};

  SWITCHYARD_DEVICE void start(const GroupedArgs& args, const Tile& tile, int thread) noexcept {
    const int bytes = record_bytes(args.zero_points);
    const int chunks = bytes / kChunkBytes;
    const std::int64_t steps = (args.depth + kTileDepth - 1) / kTileDepth;
    const std::int64_t records = args.packed_columns / kRecordColumns;
    const std::int64_t first = static_cast<std::int64_t>(tile.column_tile) * kRecords;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int id = thread + i * Shape::kThreads;
      const int record = id / chunks, chunk = id % chunks;
      const bool exists = record < kRecords && first + record < records;
      from[i] = exists ? args.weights + (tile.expert * records + first + record) * steps * bytes +
                             chunk * kChunkBytes
                       : nullptr;
      to[i] = record * kMostRecordBytes + chunk * kChunkBytes;
    }
  }

  SWITCHYARD_DEVICE void issue(CopyQueue& queue, const GroupedArgs& args, SharedAddress stage,
                               int step, int) const noexcept {
    const std::int64_t offset = static_cast<std::int64_t>(step) * record_bytes(args.zero_points);
    SWITCHYARD_UNROLL
    for (int i = 0; i < kCount; ++i) {
      if (from[i] != nullptr) queue.copy(stage + to[i], from[i] + offset, true);
    }
  }

  /// As DenseColumns::multiply; columns beyond the matrix multiply what lies there.
  SWITCHYARD_DEVICE static void multiply(const GroupedArgs& args, SharedAddress a, SharedAddress b,
                                         int warp_row, int warp_column, int first_slice,
                                         float (&sums)[Shape::kRowTiles][8][4]) noexcept {
    constexpr int kSlices = Shape::kWarpsK == 1 ? 2 : 1;  // of a half that a warp does
    static_assert(Shape::kWarpsK == 1 || Shape::kWarpsK == 4);
    const int lane = simt::lane_index();
    const RowColumn at_a = a_address(lane);
    SWITCHYARD_UNROLL
    for (int h = 0; h < (Shape::kWarpsK == 1 ? 2 : 1); ++h) {
      const int slice = Shape::kWarpsK == 1 ? h * 2 : first_slice;
      const int half = slice / 2;
      std::uint32_t rows[kSlices][Shape::kRowTiles][4];
      SWITCHYARD_UNROLL
      for (int s = 0; s < kSlices; ++s) {
        SWITCHYARD_UNROLL
        for (int m = 0; m < Shape::kRowTiles; ++m) {
          ldmatrix(a + swizzled(warp_row + m * 16 + at_a.row, (slice + s) * 2 + at_a.column),
                   rows[s][m]);
        }
      }
      SWITCHYARD_UNROLL
      for (int pair = 0; pair < 4; ++pair) {
        const SharedAddress record = b + (warp_column / kRecordColumns + pair) * kMostRecordBytes;
        std::uint32_t codes[kSlices];
        SWITCHYARD_UNROLL
        for (int s = 0; s < kSlices; ++s)
          codes[s] = load_word(record + lane * 16 + (slice + s) * 4);
        SWITCHYARD_UNROLL
        for (int n = 0; n < 2; ++n) {
          const std::uint32_t zero =
              args.zero_points ? load_byte(record + kZerosAt + half * 16 + n * 8 + lane / 4) : 8u;
          const std::uint32_t scales =
              load_word(record + kScalesAt + half * 32 + n * 16 + lane % 4 * 4);
          add_fragment(rows, codes, n * 2, bias_of<T>(zero), scales, pair * 2 + n, sums);
        }
      }
    }
  }

 private:
  /// Fragment f: codes of its registers `first` and first + 1, unscaled sums, scale, add.
  template <int kSlices>
  SWITCHYARD_DEVICE static void add_fragment(
      const std::uint32_t (&rows)[kSlices][Shape::kRowTiles][4],
      const std::uint32_t (&codes)[kSlices], int first, std::uint32_t bias, std::uint32_t scales,
      int f, float (&sums)[Shape::kRowTiles][8][4]) noexcept {
    const float scale[2] = {widen(f16{static_cast<std::uint16_t>(scales)}),
                            widen(f16{static_cast<std::uint16_t>(scales >> 16)})};
    std::uint32_t columns[kSlices][2];
    SWITCHYARD_UNROLL
    for (int s = 0; s < kSlices; ++s) {
      SWITCHYARD_UNROLL
      for (int r = 0; r < 2; ++r) {
        const std::uint32_t pair = codes[s] >> ((first + r) * 4) & 0x000f000fu;
        columns[s][r] = fused_pair<T>(pair | CodeBits<T>::kBase, CodeBits<T>::kOne, bias);
      }
    }
    SWITCHYARD_UNROLL
    for (int m = 0; m < Shape::kRowTiles; ++m) {
      float part[4] = {};
      SWITCHYARD_UNROLL
      for (int s = 0; s < kSlices; ++s) mma<T>(part, rows[s][m], columns[s][0], columns[s][1]);
      SWITCHYARD_UNROLL
      for (int i = 0; i < 4; ++i) sums[m][f][i] = fused(part[i], scale[i % 2], sums[m][f][i]);
    }
  }
};

}  // namespace switchyard::gemm
