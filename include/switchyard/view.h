#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "switchyard/dtype.h"

namespace switchyard {

/// Where a view's memory lies. Functions take cpu unless device.h says otherwise.
enum class Device : std::uint8_t { cpu, cuda };

/// A matrix in memory that the caller owns: `rows` rows of `cols` contiguous elements, each row
/// `row_stride` elements after the one before. Any row_stride >= cols and any alignment of `data`
/// to the element size will do. A view of zero rows may have a null `data`.
template <class Byte>
struct BasicMatrixView {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  Device device = Device::cpu;

  Byte* row(std::int64_t i) const noexcept {
    return data + i * row_stride * static_cast<std::int64_t>(size_of(dtype));
  }
};

using MatrixView = BasicMatrixView<std::byte>;

struct ConstMatrixView : BasicMatrixView<const std::byte> {
  ConstMatrixView() = default;
  ConstMatrixView(const std::byte* data, DType dtype, std::int64_t rows, std::int64_t cols,
                  std::int64_t row_stride, Device device = Device::cpu)
      : BasicMatrixView{data, dtype, rows, cols, row_stride, device} {}
  ConstMatrixView(const MatrixView& v)  // NOLINT: a writable view is a readable one
      : BasicMatrixView{v.data, v.dtype, v.rows, v.cols, v.row_stride, v.device} {}
};

/// Views [rows, cols] elements of T that lie densely from `data`.
template <class T>
MatrixView matrix(T* data, std::int64_t rows, std::int64_t cols) {
  return {reinterpret_cast<std::byte*>(data), DTypeOf<T>::value, rows, cols, cols};
}
template <class T>
ConstMatrixView matrix(const T* data, std::int64_t rows, std::int64_t cols) {
  return {reinterpret_cast<const std::byte*>(data), DTypeOf<T>::value, rows, cols, cols};
}

/// E matrices of one shape, each `matrix_stride` elements after the one before:
/// the weights of all experts for one projection, [E, out, in].
struct ConstMatricesView {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t count = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t matrix_stride = 0;
  Device device = Device::cpu;

  ConstMatrixView operator[](std::int64_t i) const noexcept {
    return {data + i * matrix_stride * static_cast<std::int64_t>(size_of(dtype)),
            dtype,
            rows,
            cols,
            row_stride,
            device};
  }
};

/// Views [count, rows, cols] elements of T that lie densely from `data`.
template <class T>
ConstMatricesView matrices(const T* data, std::int64_t count, std::int64_t rows,
                           std::int64_t cols) {
  return {reinterpret_cast<const std::byte*>(data),
          DTypeOf<T>::value,
          count,
          rows,
          cols,
          cols,
          rows * cols};
}

}  // namespace switchyard
