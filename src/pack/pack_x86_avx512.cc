#include <immintrin.h>

#include "pack/pack_kernel.h"

namespace switchyard {
namespace {

constexpr std::int64_t kVector = 64;
constexpr std::int64_t kUnrolled = 4 * kVector;

__mmask64 first_bytes(std::int64_t n) noexcept { return ~__mmask64{0} >> (kVector - n); }

void copy_part(const std::byte* in, std::byte* out, std::int64_t bytes) noexcept {
  const __mmask64 mask = first_bytes(bytes);
  _mm512_mask_storeu_epi8(out, mask, _mm512_maskz_loadu_epi8(mask, in));
}

void copy_row(const std::byte* in, std::byte* out, std::int64_t bytes) noexcept {
  std::int64_t i = 0;
  for (; i + kUnrolled <= bytes; i += kUnrolled) {
    const __m512i a = _mm512_loadu_si512(in + i), b = _mm512_loadu_si512(in + i + kVector);
    const __m512i c = _mm512_loadu_si512(in + i + 2 * kVector);
    const __m512i d = _mm512_loadu_si512(in + i + 3 * kVector);
    _mm512_storeu_si512(out + i, a);
    _mm512_storeu_si512(out + i + kVector, b);
    _mm512_storeu_si512(out + i + 2 * kVector, c);
    _mm512_storeu_si512(out + i + 3 * kVector, d);
  }
  for (; i + kVector <= bytes; i += kVector) {
    _mm512_storeu_si512(out + i, _mm512_loadu_si512(in + i));
  }
  if (i < bytes) copy_part(in + i, out + i, bytes - i);
}

// Streaming stores need aligned lines: the ends of the row go the ordinary way.
void stream_row(const std::byte* in, std::byte* out, std::int64_t bytes) noexcept {
  std::int64_t i = -reinterpret_cast<std::intptr_t>(out) & (kVector - 1);
  if (i > bytes) i = bytes;
  if (i > 0) copy_part(in, out, i);
  for (; i + kVector <= bytes; i += kVector) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i), _mm512_loadu_si512(in + i));
  }
  if (i < bytes) copy_part(in + i, out + i, bytes - i);
}

void stream_vector(const std::byte* in, std::byte* out) noexcept {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(out), _mm512_loadu_si512(in));
}

// Of whole lines.
void stream_two_rows(const std::byte* in, std::byte* a, std::byte* b, std::int64_t bytes) noexcept {
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

void clear_row(std::byte* out, std::int64_t bytes) noexcept {
  std::int64_t i = 0;
  for (; i + kVector <= bytes; i += kVector) _mm512_storeu_si512(out + i, _mm512_setzero_si512());
  if (i < bytes) _mm512_mask_storeu_epi8(out + i, first_bytes(bytes - i), _mm512_setzero_si512());
}

}  // namespace

void pack_bytes_avx512(const PackRows& rows, std::int64_t begin, std::int64_t end) noexcept {
  const bool streams_pairs = rows.bypass_cache && writes_whole_lines(rows);
  for (std::int64_t r = begin; r < end; ++r) {
    std::byte* out = rows.out + row_of(rows, r) * rows.out_stride;
    const std::int32_t token = rows.token_of_row[r];
    if (token < 0) {
      clear_row(out, rows.row_bytes);
    } else if (streams_pairs && is_pair(rows, r, end)) {
      ++r;
      stream_two_rows(rows.in + token * rows.in_stride, out,
                      rows.out + row_of(rows, r) * rows.out_stride, rows.row_bytes);
    } else if (rows.bypass_cache) {
      stream_row(rows.in + token * rows.in_stride, out, rows.row_bytes);
    } else {
      copy_row(rows.in + token * rows.in_stride, out, rows.row_bytes);
    }
  }
  if (rows.bypass_cache) _mm_sfence();
}

}  // namespace switchyard
