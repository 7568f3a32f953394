#pragma once

#include <cstdint>

#include "base/host_device.h"
#include "gemm/mma_layout.h"

// int4 weights as mma.sync on a GPU wants them: in records of 16 packed columns by 64 deep, each
// holding what a warp needs of them in one step.
//
//   codes   512 bytes: 16 for each lane, one 32-bit word for each 16 in depth
//   scales   64 bytes: [2][16] f16, of the first and the second 32 in depth
//   zeros    32 bytes: [2][16] 8 bits, only with zero points
//
// Records lie as [E][packed columns / 16][depth / 64]. Groups of 64 and 128 repeat their scales for
// every 32: at most 9 % more bytes, for one kernel instead of three.

namespace switchyard::gemm {

inline constexpr int kRecordColumns = 16;
inline constexpr int kScalesAt = 512;
inline constexpr int kZerosAt = kScalesAt + 64;
inline constexpr int kMostRecordBytes = kZerosAt + 32;

SWITCHYARD_HD constexpr int record_bytes(bool zero_points) noexcept {
  return zero_points ? kMostRecordBytes : kZerosAt;
}

struct CodePlace {
  int byte;   ///< within a record
  int shift;  ///< 0 or 4
};

/// Where the code of column n (0..15) at depth k (0..63) lies. Nibbles i and i + 4 of a word are
/// the neighbours in depth of register i of a lane's B fragments: two of columns 0..7, two of
/// columns 8..15. One shift and one mask then give both halves of the register.
SWITCHYARD_HD constexpr CodePlace code_place(int n, int k) noexcept {
  const int slice = k / 16, in_slice = k % 16;
  const int lane = n % 8 * 4 + in_slice % 8 / 2;
  const int nibble = n / 8 * 2 + in_slice / 8 + k % 2 * 4;
  return {lane * 16 + slice * 4 + nibble / 2, nibble % 2 * 4};
}

}  // namespace switchyard::gemm
