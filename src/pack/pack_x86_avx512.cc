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

void clear_row(std::byte* out, std::int64_t bytes) noexcept {
  std::int64_t i = 0;
  for (; i + kVector <= bytes; i += kVector) _mm512_storeu_si512(out + i, _mm512_setzero_si512());
  if (i < bytes) _mm512_mask_storeu_epi8(out + i, first_bytes(bytes - i), _mm512_setzero_si512());
}

}  // namespace
}  // namespace switchyard

#include "pack/pack_rows.h"

namespace switchyard {

void pack_bytes_avx512(const PackRows& rows, std::int64_t begin, std::int64_t end) noexcept {
  pack_rows(rows, begin, end);
  if (rows.bypass_cache) _mm_sfence();
}

}  // namespace switchyard
