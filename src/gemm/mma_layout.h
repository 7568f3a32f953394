#pragma once

#include <cstdint>

#include "base/host_device.h"

// Where elements of 16 bits lie: in swizzled shared memory, in the registers of a warp's
// mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), in the addresses ldmatrix wants, and
// in weights whose columns are permuted so that a lane ends up with 8 outputs that lie together.

namespace switchyard::gemm {

/// A row of a shared tile: 64 elements, 128 bytes, 8 chunks of 16 bytes.
inline constexpr int kTileDepth = 64;
inline constexpr int kRowBytes = 128;
inline constexpr int kChunkBytes = 16;
inline constexpr int kChunks = kRowBytes / kChunkBytes;

/// Byte offset of chunk `chunk` of row `row` in a tile of 128-byte rows. Chunks of 8 consecutive
/// rows at one column land in 8 different groups of 4 banks, so neither ldmatrix, which reads such
/// 8 chunks at a time, nor rows written whole collide. It is the 128-byte swizzle of TMA and wgmma
/// (address bits 4..6 ^= bits 7..9) for tiles aligned to 1024 bytes.
SWITCHYARD_HD constexpr std::uint32_t swizzled(int row, int chunk) noexcept {
  return static_cast<std::uint32_t>(row * kRowBytes + ((chunk ^ (row & 7)) * kChunkBytes));
}

struct RowColumn {
  int row, column;
};

/// A [16 x 16], element i (0..7) of a lane; two a register, the even one low.
SWITCHYARD_HD constexpr RowColumn a_element(int lane, int i) noexcept {
  return {lane / 4 + (i / 2 % 2) * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
}

/// B [16 x 8], element i (0..3): row is depth, column is n.
SWITCHYARD_HD constexpr RowColumn b_element(int lane, int i) noexcept {
  return {lane % 4 * 2 + i % 2 + i / 2 * 8, lane / 4};
}

/// C and D [16 x 8], element i (0..3), one f32 a register. Accumulators of wgmma.m64nNk16 are laid
/// out like this too: warp w of four holds rows 16 w on, and columns go on 8 at a time.
SWITCHYARD_HD constexpr RowColumn c_element(int lane, int i) noexcept {
  return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2};
}

/// The row and the chunk (of 8 elements) whose address a lane gives to ldmatrix.x4, so that the
/// four registers it gets back are A's, for rows [0, 16) and depth [0, 16).
SWITCHYARD_HD constexpr RowColumn a_address(int lane) noexcept { return {lane % 16, lane / 16}; }

/// The same for B of two neighbours in n, lying as [n][depth]: registers 0, 1 belong to n in
/// [0, 8), registers 2, 3 to n in [8, 16). `row` is n.
SWITCHYARD_HD constexpr RowColumn b_address(int lane) noexcept {
  return {lane % 8 + lane / 16 * 8, lane / 8 % 2};
}

/// How wgmma is told where a K-major operand of 128-byte rows lies (PTX ISA, "Matrix Descriptor
/// Format" of wgmma): address / 16 in bits 0..13, bytes / 16 from one 8 rows to the next in bits
/// 32..45, 128-byte swizzle as 1 in bits 62..63. The distance along the depth in bits 16..29 counts
/// only where rows are longer than the swizzle. The tile is aligned to 1024 bytes.
SWITCHYARD_HD constexpr std::uint64_t matrix_descriptor(std::uint32_t address) noexcept {
  return (std::uint64_t{address} >> 4 & 0x3fff) | std::uint64_t{1} << 16 |
         std::uint64_t{8 * kRowBytes / 16} << 32 | std::uint64_t{1} << 62;
}
/// Added to a descriptor it moves on by 16 in depth.
inline constexpr std::uint64_t kDescriptorSlice = 16 * 2 / 16;

/// Where element (row, k) of an operand is that a descriptor tells of: the swizzle exchanges
/// address bits 4..6 with their exclusive or with bits 7..9.
SWITCHYARD_HD constexpr std::uint32_t described_element(std::uint64_t descriptor, int row,
                                                        int k) noexcept {
  const auto start = static_cast<std::uint32_t>(descriptor & 0x3fff) << 4;
  const auto stride = static_cast<std::uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const std::uint32_t plain = start + static_cast<std::uint32_t>(row / 8) * stride +
                              static_cast<std::uint32_t>(row % 8 * kRowBytes + k * 2);
  return descriptor >> 62 == 1 ? plain ^ ((plain >> 7 & 7u) << 4) : plain;
}

/// Columns of packed weights come in blocks of 64, the width of a warp's (or half a warpgroup's)
/// accumulators: 8 fragments of 8 columns. A lane holds columns 2 q, 2 q + 1 (q = lane mod 4) of
/// every fragment; this order makes them 8 neighbouring columns of the output, one 16-byte store.
///   plain  two halves of 4 fragments, each half 32 columns of the output
///   gated  even fragments are gate, odd ones up; together 32 columns of the output
inline constexpr int kPackedBlock = 64;

struct PackedColumn {
  std::int64_t column;  ///< of the projection's output
  bool is_gate;
};

SWITCHYARD_HD constexpr PackedColumn packed_column(std::int64_t packed, bool gated) noexcept {
  const std::int64_t block = packed / kPackedBlock;
  const int fragment = static_cast<int>(packed % kPackedBlock) / 8;
  const int q = static_cast<int>(packed % 8) / 2, odd = static_cast<int>(packed % 2);
  if (gated) return {block * 32 + q * 8 + fragment / 2 * 2 + odd, fragment % 2 == 0};
  return {block * 64 + fragment / 4 * 32 + q * 8 + fragment % 4 * 2 + odd, false};
}

/// Packed columns of a projection with `columns` outputs.
SWITCHYARD_HD constexpr std::int64_t packed_columns(std::int64_t columns, bool gated) noexcept {
  const std::int64_t outputs = gated ? 32 : 64;
  return (columns + outputs - 1) / outputs * kPackedBlock;
}

}  // namespace switchyard::gemm
