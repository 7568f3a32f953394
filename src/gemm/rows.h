#pragma once

#include <cstdint>
#include <cstring>

#include "base/threads.h"
#include "switchyard/view.h"

namespace switchyard::gemm {

/// Calls work(From{}, To{}) with the element types of two dtypes.
template <class Work>
void with_element_types(DType from, DType to, Work&& work) {
  const auto with_from = [&](auto source) {
    switch (to) {
      case DType::f32: return work(source, float{});
      case DType::bf16: return work(source, bf16{});
      case DType::f16: return work(source, f16{});
    }
  };
  switch (from) {
    case DType::f32: return with_from(float{});
    case DType::bf16: return with_from(bf16{});
    case DType::f16: return with_from(f16{});
  }
}

/// Copies `cols` elements, rounding once where the dtypes differ.
inline void copy_row(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype,
                     std::int64_t cols) {
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<std::size_t>(cols) * size_of(to_dtype));
    return;
  }
  with_element_types(from_dtype, to_dtype, [&](auto source, auto target) {
    const auto* x = reinterpret_cast<const decltype(source)*>(from);
    auto* y = reinterpret_cast<decltype(target)*>(to);
    for (std::int64_t j = 0; j < cols; ++j) y[j] = from_float<decltype(target)>(to_float(x[j]));
  });
}

/// to[i, :] = from[source(i), :] for i < count; rows whose source is negative are left alone.
template <class Source>
void copy_rows(ThreadPool& pool, std::int64_t count, ConstMatrixView from, MatrixView to,
               Source&& source) {
  constexpr std::int64_t kGrain = 16;  // rows: below this a second thread costs more than it saves
  pool.for_ranges(count, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t s = source(i);
      if (s >= 0) copy_row(from.row(s), from.dtype, to.row(i), to.dtype, to.cols);
    }
  });
}

}  // namespace switchyard::gemm
