#include <immintrin.h>

#include "bench/limits_kernel.h"

namespace switchyard {
namespace {

struct Sum {
  __m256i words = _mm256_setzero_si256();

  inline void add(const std::byte* line) noexcept {
    const auto* halves = reinterpret_cast<const __m256i*>(line);
    words = _mm256_add_epi64(words, _mm256_load_si256(halves));
    words = _mm256_add_epi64(words, _mm256_load_si256(halves + 1));
  }
  inline void add(const Sum& other) noexcept { words = _mm256_add_epi64(words, other.words); }
  inline std::uint64_t total() const noexcept {
    alignas(32) std::uint64_t lanes[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), words);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
  }
};

}  // namespace
}  // namespace switchyard

#include "bench/limits_read.h"

namespace switchyard {

std::uint64_t read_avx2(const std::byte* data, std::int64_t bytes, ReadOrder order) noexcept {
  return read_in(order, data, bytes);
}

void copy_stream_avx2(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept {
  for (std::int64_t i = 0; i < bytes; i += 64) {
    const auto* from = reinterpret_cast<const __m256i*>(src + i);
    auto* to = reinterpret_cast<__m256i*>(dst + i);
    const __m256i low = _mm256_load_si256(from), high = _mm256_load_si256(from + 1);
    _mm256_stream_si256(to, low);
    _mm256_stream_si256(to + 1, high);
  }
}

void write_stream_avx2(std::byte* dst, std::int64_t bytes) noexcept {
  const __m256i ones = _mm256_set1_epi8(1);
  for (std::int64_t i = 0; i < bytes; i += 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(dst + i), ones);
  }
}

float peak_f32_avx2(std::int64_t steps) noexcept {
  const __m256 x = _mm256_set1_ps(1.001f), y = _mm256_set1_ps(1e-6f);
  __m256 a = y, b = _mm256_add_ps(a, y), c = _mm256_add_ps(b, y), d = _mm256_add_ps(c, y),
         e = _mm256_add_ps(d, y), f = _mm256_add_ps(e, y), g = _mm256_add_ps(f, y),
         h = _mm256_add_ps(g, y), i = _mm256_add_ps(h, y), j = _mm256_add_ps(i, y),
         k = _mm256_add_ps(j, y), l = _mm256_add_ps(k, y);
  for (std::int64_t step = 0; step < steps; ++step) {
    a = _mm256_fmadd_ps(x, y, a);
    b = _mm256_fmadd_ps(x, y, b);
    c = _mm256_fmadd_ps(x, y, c);
    d = _mm256_fmadd_ps(x, y, d);
    e = _mm256_fmadd_ps(x, y, e);
    f = _mm256_fmadd_ps(x, y, f);
    g = _mm256_fmadd_ps(x, y, g);
    h = _mm256_fmadd_ps(x, y, h);
    i = _mm256_fmadd_ps(x, y, i);
    j = _mm256_fmadd_ps(x, y, j);
    k = _mm256_fmadd_ps(x, y, k);
    l = _mm256_fmadd_ps(x, y, l);
  }
  a = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)), _mm256_add_ps(e, f));
  g = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(g, h), _mm256_add_ps(i, j)), _mm256_add_ps(k, l));
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, _mm256_add_ps(a, g));
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

float peak_int8_avx2(std::int64_t steps) noexcept {
  const __m256i x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(5);
  __m256i sum[12];
  for (auto& lanes : sum) lanes = _mm256_setzero_si256();
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) {
      // What depends on the sum keeps the product inside the loop.
      const __m256i a = _mm256_xor_si256(x, _mm256_cmpgt_epi16(sum[i], sum[i]));
      sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(a, y));
    }
  }
  for (int i = 1; i < 12; ++i) sum[0] = _mm256_add_epi16(sum[0], sum[i]);
  return static_cast<float>(_mm256_extract_epi16(sum[0], 0));
}

}  // namespace switchyard
