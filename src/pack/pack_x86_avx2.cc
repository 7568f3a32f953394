#include <immintrin.h>

#include "pack/pack_kernel.h"

namespace switchyard {
namespace {

constexpr std::int64_t kVector = 32;

__m256i load(const std::byte* in) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
}

void store(std::byte* out, __m256i value) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), value);
}

// A row of at least one vector ends with a vector that overlaps the one before.
void copy_row(const std::byte* in, std::byte* out, std::int64_t bytes) noexcept {
  if (bytes < kVector) {
    __builtin_memcpy(out, in, static_cast<std::size_t>(bytes));
    return;
  }
  std::int64_t i = 0;
  for (; i + 2 * kVector <= bytes; i += 2 * kVector) {
    const __m256i a = load(in + i), b = load(in + i + kVector);
    store(out + i, a);
    store(out + i + kVector, b);
  }
  for (; i + kVector <= bytes; i += kVector) store(out + i, load(in + i));
  if (i < bytes) store(out + bytes - kVector, load(in + bytes - kVector));
}

// Streaming stores need aligned vectors: the ends of the row go the ordinary way.
void stream_row(const std::byte* in, std::byte* out, std::int64_t bytes) noexcept {
  if (bytes < 2 * kVector) return copy_row(in, out, bytes);
  store(out, load(in));
  std::int64_t i = kVector - (reinterpret_cast<std::intptr_t>(out) & (kVector - 1));
  for (; i + kVector <= bytes; i += kVector) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(out + i), load(in + i));
  }
  if (i < bytes) store(out + bytes - kVector, load(in + bytes - kVector));
}

void stream_vector(const std::byte* in, std::byte* out) noexcept {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(out), load(in));
}

void clear_row(std::byte* out, std::int64_t bytes) noexcept {
  std::int64_t i = 0;
  for (; i + kVector <= bytes; i += kVector) store(out + i, _mm256_setzero_si256());
  if (i < bytes) __builtin_memset(out + i, 0, static_cast<std::size_t>(bytes - i));
}

}  // namespace
}  // namespace switchyard

#include "pack/pack_rows.h"

namespace switchyard {

void pack_bytes_avx2(const PackRows& rows, std::int64_t begin, std::int64_t end) noexcept {
  pack_rows(rows, begin, end);
  if (rows.bypass_cache) _mm_sfence();
}

}  // namespace switchyard
