#include <algorithm>
#include <cstring>

#include "combine/combine_kernel.h"
#include "switchyard/dtype.h"

namespace switchyard {
namespace {

constexpr std::int64_t kBlock = 32;  // columns summed at a time, so that sums stay in registers

// Elements may lie at any byte address.
template <class T>
float load(const std::byte* from, std::int64_t i) noexcept {
  T value;
  std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof value), sizeof value);
  return to_float(value);
}

template <class T>
void store(std::byte* to, std::int64_t i, float x) noexcept {
  const T value = from_float<T>(x);
  std::memcpy(to + i * static_cast<std::int64_t>(sizeof value), &value, sizeof value);
}

template <class T>
void sum_columns(const CombineRows& job, std::int64_t token, std::int64_t first,
                 std::int64_t count) noexcept {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  std::byte* out = job.out + token * job.out_stride + first * kSize;
  float sum[kBlock];
  bool any = job.accumulate;
  if (any) {
    for (std::int64_t i = 0; i < count; ++i) sum[i] = load<T>(out, i);
  }
  for (std::int64_t a = job.token_begin[token]; a < job.token_begin[token + 1]; ++a) {
    const std::int32_t row = job.row_of_assignment[a];
    if (row < 0) continue;
    const std::byte* in = job.rows + row * job.row_stride + first * kSize;
    const float weight = job.weight_of_assignment[a];
    if (any) {
      for (std::int64_t i = 0; i < count; ++i) sum[i] += weight * load<T>(in, i);
    } else {
      for (std::int64_t i = 0; i < count; ++i) sum[i] = weight * load<T>(in, i);
    }
    any = true;
  }
  if (any) {
    for (std::int64_t i = 0; i < count; ++i) store<T>(out, i, sum[i]);
  } else {
    std::memset(out, 0, static_cast<std::size_t>(count * kSize));
  }
}

template <class T>
void combine_portable(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t token = begin; token < end; ++token) {
    std::int64_t i = 0;
    // A constant count, so that the compiler unrolls and vectorises.
    for (; i + kBlock <= job.cols; i += kBlock) sum_columns<T>(job, token, i, kBlock);
    if (i < job.cols) sum_columns<T>(job, token, i, job.cols - i);
  }
}

}  // namespace

void combine_f32_portable(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_portable<float>(job, begin, end);
}

void combine_bf16_portable(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_portable<bf16>(job, begin, end);
}

void combine_f16_portable(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_portable<f16>(job, begin, end);
}

}  // namespace switchyard
