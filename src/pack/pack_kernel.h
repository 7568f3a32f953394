#pragma once

#include <cstddef>
#include <cstdint>

namespace switchyard {

/// Rows to gather; a row is bytes, so one kernel serves every dtype.
///   out[row(r), :] = in[token_of_row[r], :]    for token_of_row[r] >= 0
///   out[row(r), :] = 0                         for token_of_row[r] = -1
/// row(r) = row_of_copy[r], or r where that is null.
struct PackRows {
  const std::byte* in;
  std::int64_t in_stride;  ///< bytes between rows
  const std::int32_t* token_of_row;
  std::byte* out;
  std::int64_t out_stride;  ///< bytes between rows
  std::int64_t row_bytes;
  bool bypass_cache;  ///< a hint: the output is larger than the caches
  const std::int32_t* row_of_copy = nullptr;
};

// Static, so that no kernel's wide copy of it can be linked into another.
static inline std::int64_t row_of(const PackRows& rows, std::int64_t r) noexcept {
  return rows.row_of_copy != nullptr ? rows.row_of_copy[r] : r;
}

/// Makes copies [begin, end). Reads and writes no byte outside the rows. Any alignment.
using PackKernel = void(const PackRows& rows, std::int64_t begin, std::int64_t end) noexcept;

#define SWITCHYARD_PACK_KERNEL(isa, kernel) PackKernel kernel;
#include "pack/kernels.inc"
#undef SWITCHYARD_PACK_KERNEL

}  // namespace switchyard
