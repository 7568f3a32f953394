#pragma once

#include <vector>

#include "base/philox.h"
#include "switchyard/dtype.h"
#include "switchyard/view.h"

namespace switchyard::gemm {

/// A matrix with its own memory, filled with uniforms of variance scale^2.
struct Matrix {
  DType dtype;
  std::int64_t rows, cols;
  std::vector<std::byte> memory;

  Matrix(DType type, std::int64_t num_rows, std::int64_t num_cols, std::uint64_t stream,
         float scale = 1.0f)
      : dtype(type), rows(num_rows), cols(num_cols), memory(rows * cols * size_of(type)) {
    const Philox random(17, stream);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      set(i, scale * 1.7320508f * (2 * random.uniform(i) - 1));
    }
  }
  void set(std::int64_t i, float x) {
    switch (dtype) {
      case DType::f32: reinterpret_cast<float*>(memory.data())[i] = x; break;
      case DType::bf16: reinterpret_cast<bf16*>(memory.data())[i] = from_float<bf16>(x); break;
      case DType::f16: reinterpret_cast<f16*>(memory.data())[i] = from_float<f16>(x); break;
    }
  }
  double at(std::int64_t r, std::int64_t c) const {
    const std::int64_t i = r * cols + c;
    switch (dtype) {
      case DType::f32: return reinterpret_cast<const float*>(memory.data())[i];
      case DType::bf16: return to_float(reinterpret_cast<const bf16*>(memory.data())[i]);
      case DType::f16: return to_float(reinterpret_cast<const f16*>(memory.data())[i]);
    }
    return 0;
  }
  MatrixView view() { return {memory.data(), dtype, rows, cols, cols}; }
  ConstMatricesView stacked(std::int64_t count) const {
    return {memory.data(), dtype, count, rows / count, cols, cols, rows / count * cols};
  }
};

}  // namespace switchyard::gemm
