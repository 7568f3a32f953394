#include <immintrin.h>

#include "bench/limits_kernel.h"

namespace switchyard {
namespace {

struct Sum {
  __m512i words = _mm512_setzero_si512();

  inline void add(const std::byte* line) noexcept {
    words = _mm512_add_epi64(words, _mm512_load_si512(line));
  }
  inline void add(const Sum& other) noexcept { words = _mm512_add_epi64(words, other.words); }
  // Stored and summed one by one: GCC 12 warns inside its own _mm512_reduce_*.
  inline std::uint64_t total() const noexcept {
    alignas(64) std::uint64_t lanes[8];
    _mm512_store_si512(lanes, words);
    std::uint64_t sum = 0;
    for (const std::uint64_t lane : lanes) sum += lane;
    return sum;
  }
};

}  // namespace
}  // namespace switchyard

#include "bench/limits_read.h"

namespace switchyard {

std::uint64_t read_avx512(const std::byte* data, std::int64_t bytes, ReadOrder order) noexcept {
  return read_in(order, data, bytes);
}

void copy_avx512(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept {
  for (std::int64_t i = 0; i < bytes; i += 128) {
    const __m512i low = _mm512_load_si512(src + i), high = _mm512_load_si512(src + i + 64);
    _mm512_store_si512(dst + i, low);
    _mm512_store_si512(dst + i + 64, high);
  }
}

void copy_stream_avx512(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept {
  for (std::int64_t i = 0; i < bytes; i += 128) {
    const __m512i low = _mm512_load_si512(src + i), high = _mm512_load_si512(src + i + 64);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(dst + i), low);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(dst + i + 64), high);
  }
}

void write_avx512(std::byte* dst, std::int64_t bytes) noexcept {
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t i = 0; i < bytes; i += 64) _mm512_store_si512(dst + i, ones);
}

void write_stream_avx512(std::byte* dst, std::int64_t bytes) noexcept {
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t i = 0; i < bytes; i += 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(dst + i), ones);
  }
}

float peak_f32_avx512(std::int64_t steps) noexcept {
  const __m512 x = _mm512_set1_ps(1.001f), y = _mm512_set1_ps(1e-6f);
  __m512 a = y, b = _mm512_add_ps(a, y), c = _mm512_add_ps(b, y), d = _mm512_add_ps(c, y),
         e = _mm512_add_ps(d, y), f = _mm512_add_ps(e, y), g = _mm512_add_ps(f, y),
         h = _mm512_add_ps(g, y), i = _mm512_add_ps(h, y), j = _mm512_add_ps(i, y),
         k = _mm512_add_ps(j, y), l = _mm512_add_ps(k, y);
  for (std::int64_t step = 0; step < steps; ++step) {
    a = _mm512_fmadd_ps(x, y, a);
    b = _mm512_fmadd_ps(x, y, b);
    c = _mm512_fmadd_ps(x, y, c);
    d = _mm512_fmadd_ps(x, y, d);
    e = _mm512_fmadd_ps(x, y, e);
    f = _mm512_fmadd_ps(x, y, f);
    g = _mm512_fmadd_ps(x, y, g);
    h = _mm512_fmadd_ps(x, y, h);
    i = _mm512_fmadd_ps(x, y, i);
    j = _mm512_fmadd_ps(x, y, j);
    k = _mm512_fmadd_ps(x, y, k);
    l = _mm512_fmadd_ps(x, y, l);
  }
  a = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)), _mm512_add_ps(e, f));
  g = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(g, h), _mm512_add_ps(i, j)), _mm512_add_ps(k, l));
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, _mm512_add_ps(a, g));
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace switchyard
