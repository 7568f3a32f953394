#pragma once

#include <cstddef>
#include <cstdint>

namespace switchyard {

/// Weighted sums of rows, token by token. Where a runs over t's assignments with row[a] >= 0, the
/// first of them a0:
///   s = w[a0] * rows[row[a0], :]                     (out[t, :] + that product when `accumulate`)
///   s = s + w[a] * rows[row[a], :]                   for each following a, in order
///   out[t, :] = round(s), or 0 when there is no such a (unchanged when `accumulate`)
/// Every product and every sum is rounded to f32 (no fused multiply-add: a variant without one
/// could not agree), round() is to nearest even and keeps NaN. So all variants give the same bits;
/// only the payload of a NaN may differ.
struct CombineRows {
  const std::byte* rows;
  std::int64_t row_stride;                ///< bytes
  const std::int64_t* token_begin;        ///< [T+1]
  const std::int32_t* row_of_assignment;  ///< [A], -1: dropped
  const float* weight_of_assignment;      ///< [A]
  std::byte* out;
  std::int64_t out_stride;  ///< bytes
  std::int64_t cols;        ///< elements
  bool accumulate;
  bool bypass_cache;        ///< a hint: the output is larger than the caches
  std::int64_t near_bytes;  ///< a hint: a token's rows up to this are fetched into L1, more into L2
};

/// Sums tokens [begin, end). Touches no byte outside the rows. Any alignment.
using CombineKernel = void(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept;

#define SWITCHYARD_COMBINE_KERNEL(isa, dtype, kernel) CombineKernel kernel;
#include "combine/kernels.inc"
#undef SWITCHYARD_COMBINE_KERNEL

}  // namespace switchyard
