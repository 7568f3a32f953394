#pragma once

#include "combine/combine_kernel.h"

// Static, so that no kernel's wide copy of it can be linked into another.

namespace switchyard {

/// One token's part of the job.
struct Token {
  std::int64_t first, last;  ///< assignments, from the first kept one
  std::byte* out;
  std::int64_t next_last;  ///< of the next token's, which begin at `last`
  bool next_is_near;       ///< L1 holds the next token's rows beside this one's
};

/// Token t of those before `end`, whose elements take `size` bytes; `first` may be a dropped one.
static inline Token token_of(const CombineRows& job, std::int64_t t, std::int64_t end,
                             std::int64_t size) noexcept {
  const std::int64_t last = job.token_begin[t + 1];
  const std::int64_t next_last = t + 1 < end ? job.token_begin[t + 2] : last;
  return {job.token_begin[t], last, job.out + t * job.out_stride, next_last,
          (next_last - last) * job.cols * size <= job.near_bytes};
}

/// Bytes [begin, begin + bytes) of the next token's rows, into L1 or L2. Rows lie anywhere: a core
/// that asks for one when it gets there waits for memory at the start of each. A quarter less time
/// for 2 rows of 8 KiB a token.
static inline void fetch_next(const CombineRows& job, const Token& token, std::int64_t begin,
                              std::int64_t bytes) noexcept {
  for (std::int64_t a = token.last; a < token.next_last; ++a) {
    if (job.row_of_assignment[a] < 0) continue;
    const std::byte* row = job.rows + job.row_of_assignment[a] * job.row_stride + begin;
    for (std::int64_t i = 0; i < bytes; i += 64) {
      if (token.next_is_near) {
        __builtin_prefetch(row + i, 0, 3);
      } else {
        __builtin_prefetch(row + i, 0, 2);
      }
    }
  }
}

}  // namespace switchyard
