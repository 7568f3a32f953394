#pragma once

#include <cstddef>
#include <cstdint>

#include "switchyard/dtype.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// What becomes of accumulators [rows, 32] f32, row r at acc + 32 r, rounded to the element type:
///
///   store   out[r, j] = acc[r, j]                          j in [0, columns), columns in 1..32
///   gated   out[r, j] = act(acc[r, j]) * acc[r, 16 + j]    j in [0, 16)
///   plain   out[r, j] = act(acc[r, j])                     j in [0, 32)
///
/// Every variant gives the same bits: the formulas of epilogue_formulas.h use no fused operations.
enum class EpilogueKind : std::uint8_t { store, gated, plain };

struct EpilogueArgs {
  const float* acc;
  std::int64_t rows;
  std::int64_t columns;     ///< of store
  std::byte* out;           ///< element (0, 0)
  std::int64_t row_bytes;   ///< from a row to the next within 16
  std::int64_t tile_bytes;  ///< from row 0 to row 16
};

using EpilogueFn = void (*)(const EpilogueArgs&) noexcept;

/// The variant for a kind, an activation (ignored by store) and an element type.
EpilogueFn find_epilogue_portable(EpilogueKind kind, Activation act, DType element) noexcept;
#if defined(SWITCHYARD_X86_KERNELS)
EpilogueFn find_epilogue_avx2(EpilogueKind kind, Activation act, DType element) noexcept;
EpilogueFn find_epilogue_avx512(EpilogueKind kind, Activation act, DType element) noexcept;
#endif

}  // namespace switchyard::gemm
