#pragma once

#include <cstddef>
#include <cstdint>

#include "gemm/tile_schedule.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// One product over all experts: out row r = epilogue(in row of r * weights of its expert^T).
/// Pointers are the device's; those to rows and weights are aligned to 16 bytes, as are their
/// strides. Elements are the kernel's T.
struct GroupedArgs {
  const std::byte* in = nullptr;  ///< rows of `depth` elements
  std::int64_t in_row_bytes = 0;
  const std::int32_t* token_of_row = nullptr;  ///< [R] row of `in`; null: row r itself
  const std::int64_t* expert_begin = nullptr;  ///< [E] first row of an expert
  const std::int64_t* expert_rows = nullptr;   ///< [E]
  const std::byte* weights = nullptr;  ///< [E, packed_columns, depth], or records of int4_layout.h
  std::int64_t packed_columns = 0;     ///< a multiple of 64: see mma_layout.h
  std::int64_t depth = 0;              ///< a multiple of 8
  std::byte* out = nullptr;            ///< [R, columns]
  std::int64_t out_row_bytes = 0;
  std::int64_t columns = 0;
  bool out_is_aligned = false;  ///< `out` and its stride to 16 bytes
  bool gated = false;           ///< act(gate) * up, of columns packed so
  bool activated = false;       ///< act(up), where not gated
  Activation activation = Activation::silu;
  TileGrid grid;
  bool zero_points = false;  ///< of int4 weights; else all are 8
};

}  // namespace switchyard::gemm
