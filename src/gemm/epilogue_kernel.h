#pragma once

#include <cstddef>
#include <cstdint>

#include "switchyard/dtype.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// What becomes of accumulators [rows, 32] f32 of one stripe or of two side by side, row r of
/// stripe s at acc + s stripe_acc + 32 r, rounded to the element type (with fewer rows a tile, row
/// r lies where r / tile_rows * 16 + r % tile_rows would):
///
///   store   out[r, 32 s + j] = acc[s, r, j]                             j in [0, 32), < columns
///   gated   out[r, 16 s + j] = act(acc[s, r, j]) * acc[s, r, 16 + j]    j in [0, 16)
///   plain   out[r, 32 s + j] = act(acc[s, r, j])                        j in [0, 32)
///
/// Two stripes fill whole cache lines of bf16 where one of gated gives half of one.
///
/// Variants differ by the rounding of fused operations. AVX-512 BF16 rounds to bf16 in hardware,
/// which gives 0 for what is below the smallest normal number, 1.2e-38.
enum class EpilogueKind : std::uint8_t { store, gated, plain };

struct EpilogueArgs {
  const float* acc;
  std::int64_t rows;
  std::int64_t columns;         ///< of store: in [1, 32 stripes]
  std::byte* out;               ///< element (0, 0)
  std::int64_t row_bytes;       ///< from a row to the next within a tile
  std::int64_t tile_bytes;      ///< from a tile's row 0 to the next one's
  std::int64_t stripes = 1;     ///< 1 or 2
  std::int64_t stripe_acc = 0;  ///< floats from a stripe's accumulators to the next's
  /// Of store with columns = 32 stripes, rows 64-byte aligned: past the caches, for outputs larger
  /// than they are. A store would first read the line from memory.
  bool stream = false;
  std::int64_t tile_rows = 16;
};

using EpilogueFn = void (*)(const EpilogueArgs&) noexcept;

/// The variant for a kind, an activation (ignored by store) and an element type.
EpilogueFn find_epilogue_portable(EpilogueKind kind, Activation act, DType element) noexcept;
#if defined(SWITCHYARD_X86_KERNELS)
EpilogueFn find_epilogue_avx2(EpilogueKind kind, Activation act, DType element) noexcept;
EpilogueFn find_epilogue_avx512(EpilogueKind kind, Activation act, DType element) noexcept;
EpilogueFn find_epilogue_avx512_bf16(EpilogueKind kind, Activation act, DType element) noexcept;
#endif

}  // namespace switchyard::gemm
