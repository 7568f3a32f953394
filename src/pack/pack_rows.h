// Included by each pack_x86_*.cc after it has defined, in an anonymous namespace, kVector (bytes)
// and copy_row, stream_row, stream_vector and clear_row. Internal linkage throughout: each ISA gets
// a copy of its own.

#include "pack/pack_kernel.h"

namespace switchyard {
namespace {

// Bytes that are streamed to one place of a token, then to another: 12% less time for rows of 8 KiB
// and two places than row by row, 5% for eight. Larger pieces, and more places at once, were better
// for eight and worse for two.
constexpr std::int64_t kStreamedPiece = 128;

inline bool writes_whole_lines(const PackRows& rows) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(rows.out);
  return ((address | static_cast<std::uintptr_t>(rows.out_stride | rows.row_bytes)) & 63) == 0;
}

// Whether copies r and r + 1 are of one token.
inline bool is_pair(const PackRows& rows, std::int64_t r, std::int64_t end) noexcept {
  return r + 1 < end && rows.token_of_row[r] == rows.token_of_row[r + 1];
}

// Of whole lines.
inline void stream_two_rows(const std::byte* in, std::byte* a, std::byte* b,
                            std::int64_t bytes) noexcept {
  std::int64_t i = 0;
  for (; i + kStreamedPiece <= bytes; i += kStreamedPiece) {
    for (std::int64_t j = i; j < i + kStreamedPiece; j += kVector) stream_vector(in + j, a + j);
    for (std::int64_t j = i; j < i + kStreamedPiece; j += kVector) stream_vector(in + j, b + j);
  }
  for (; i < bytes; i += kVector) {
    stream_vector(in + i, a + i);
    stream_vector(in + i, b + i);
  }
}

inline void pack_rows(const PackRows& rows, std::int64_t begin, std::int64_t end) noexcept {
  const bool streams_pairs = rows.bypass_cache && writes_whole_lines(rows);
  for (std::int64_t r = begin; r < end; ++r) {
    std::byte* out = rows.out + row_of(rows, r) * rows.out_stride;
    const std::int32_t token = rows.token_of_row[r];
    if (token < 0) {
      clear_row(out, rows.row_bytes);
      continue;
    }
    const std::byte* in = rows.in + token * rows.in_stride;
    if (streams_pairs && is_pair(rows, r, end)) {
      ++r;
      stream_two_rows(in, out, rows.out + row_of(rows, r) * rows.out_stride, rows.row_bytes);
    } else if (rows.bypass_cache) {
      stream_row(in, out, rows.row_bytes);
    } else {
      copy_row(in, out, rows.row_bytes);
    }
  }
}

}  // namespace
}  // namespace switchyard
