#include <cstring>

#include "bench/limits_kernel.h"

namespace switchyard {
namespace {

// 16 bytes: the vector of every 64-bit baseline (SSE2, NEON).
using Floats = float __attribute__((vector_size(16)));

struct Sum {
  std::uint64_t words[4] = {};

  inline void add(const std::byte* line) noexcept {
    std::uint64_t read[8];
    std::memcpy(read, line, sizeof read);
    for (int j = 0; j < 8; ++j) words[j % 4] += read[j];
  }
  inline void add(const Sum& other) noexcept {
    for (int j = 0; j < 4; ++j) words[j] += other.words[j];
  }
  inline std::uint64_t total() const noexcept { return words[0] + words[1] + words[2] + words[3]; }
};

}  // namespace
}  // namespace switchyard

#include "bench/limits_read.h"

namespace switchyard {

std::uint64_t read_portable(const std::byte* data, std::int64_t bytes, ReadOrder order) noexcept {
  return read_in(order, data, bytes);
}

void copy_portable(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept {
  std::memcpy(dst, src, static_cast<std::size_t>(bytes));
}

void write_portable(std::byte* dst, std::int64_t bytes) noexcept {
  std::memset(dst, 1, static_cast<std::size_t>(bytes));
}

float peak_f32_portable(std::int64_t steps) noexcept {
  const Floats scale = {0.999f, 0.998f, 0.997f, 0.996f}, shift = {0.1f, 0.2f, 0.3f, 0.4f};
  Floats a = shift, b = a + a, c = b + a, d = c + a, e = d + a, f = e + a, g = f + a, h = g + a,
         i = h + a, j = i + a, k = j + a, l = k + a;
  for (std::int64_t step = 0; step < steps; ++step) {
    a = a * scale + shift;
    b = b * scale + shift;
    c = c * scale + shift;
    d = d * scale + shift;
    e = e * scale + shift;
    f = f * scale + shift;
    g = g * scale + shift;
    h = h * scale + shift;
    i = i * scale + shift;
    j = j * scale + shift;
    k = k * scale + shift;
    l = l * scale + shift;
  }
  const Floats sum = a + b + c + d + e + f + g + h + i + j + k + l;
  return sum[0] + sum[1] + sum[2] + sum[3];
}

}  // namespace switchyard
