#pragma once

#include <fmt/format.h>

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/names.h"
#include "switchyard/error.h"
#include "switchyard/view.h"

namespace switchyard {

/// Throws Error(invalid_argument) with the formatted sentence unless `holds`.
template <class... Args>
void require(bool holds, fmt::format_string<Args...> sentence, Args&&... args) {
  if (!holds) [[unlikely]] {
    throw Error(ErrorCode::invalid_argument, fmt::format(sentence, std::forward<Args>(args)...));
  }
}

/// Throws Error(unavailable) unless the memory of argument `name` is where this function computes.
inline void require_device(std::string_view name, Device device, Device expected) {
  if (device == expected) [[likely]]
    return;
  throw Error(ErrorCode::unavailable,
              expected == Device::cpu
                  ? fmt::format("{} is on a CUDA device: this function computes on the CPU", name)
                  : fmt::format("{} is on the CPU: this function computes on a CUDA device", name));
}
inline void require_cpu(std::string_view name, Device device) {
  require_device(name, device, Device::cpu);
}

/// Throws unless `view` is a well-formed [rows, cols] matrix in memory of `device`. `name` is the
/// argument's.
template <class Byte>
void require_shape(std::string_view name, const BasicMatrixView<Byte>& view, std::int64_t rows,
                   std::int64_t cols, Device device = Device::cpu) {
  require(view.rows == rows && view.cols == cols, "{} is [{}, {}]: expected [{}, {}]", name,
          view.rows, view.cols, rows, cols);
  require(view.row_stride >= view.cols || view.rows <= 1,
          "{} has row stride {}: expected at least its {} columns", name, view.row_stride,
          view.cols);
  require(view.data != nullptr || rows == 0 || cols == 0, "{} is null: expected [{}, {}] elements",
          name, rows, cols);
  require_device(name, view.device, device);
}

/// One row of an enum's name table.
template <class T>
struct Named {
  T value;
  std::string_view name;
};

template <class T, std::size_t N>
std::string_view name_in(const std::array<Named<T>, N>& table, T value) noexcept {
  for (const auto& row : table) {
    if (row.value == value) return row.name;
  }
  return "?";
}

/// The first name of a value is its own; later ones are aliases, accepted but not listed.
template <class T, std::size_t N>
T value_in(const std::array<Named<T>, N>& table, std::string_view what, std::string_view name) {
  std::array<std::string_view, N> names;
  std::size_t count = 0;
  for (const auto& row : table) {
    if (row.name == name) return row.value;
    if (name_in(table, row.value) == row.name) names[count++] = row.name;
  }
  throw Error(ErrorCode::invalid_argument,
              unknown_name(what, name, std::span(names.data(), count)));
}

}  // namespace switchyard
