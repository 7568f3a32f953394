#pragma once

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <ostream>
#include <vector>

#include "switchyard/layout.h"

namespace switchyard {

/// What gtest and rapidcheck print.
inline std::ostream& operator<<(std::ostream& out, const TensorLayout& layout) {
  return out << to_string(layout);
}

/// Nested at most `depth` deep, at most `budget` coordinates.
inline IntTuple any_shape(int depth, std::int64_t& budget) {
  if (depth == 0 || *rc::gen::inRange(0, 3) == 0) {
    const std::int64_t size =
        *rc::gen::inRange<std::int64_t>(1, std::min<std::int64_t>(budget, 6) + 1);
    budget /= size;
    return size;
  }
  std::vector<IntTuple> items;
  const int rank = *rc::gen::inRange(1, 4);
  for (int i = 0; i < rank; ++i) items.push_back(any_shape(depth - 1, budget));
  return IntTuple(std::move(items));
}

/// `strides` in the nesting of `shape`, from `next` on.
inline IntTuple nested_as(const IntTuple& shape, const std::vector<std::int64_t>& strides,
                          std::size_t& next) {
  if (shape.is_integer()) return strides[next++];
  std::vector<IntTuple> items;
  for (const IntTuple& item : shape.items()) items.push_back(nested_as(item, strides, next));
  return IntTuple(std::move(items));
}

/// Any strides: offsets may meet, zero included. Small multiples of small numbers, so that sizes
/// and strides of two layouts often fit.
inline rc::Gen<TensorLayout> any_layout(std::int64_t max_size = 150) {
  return rc::gen::exec([=] {
    std::int64_t budget = max_size;
    const IntTuple shape = any_shape(2, budget);
    std::vector<std::int64_t> strides;
    for (std::size_t i = 0; i < flatten(shape).size(); ++i) {
      strides.push_back(*rc::gen::element<std::int64_t>(0, 1, 1, 2, 2, 3, 4, 5, 6, 8, 12, 24));
    }
    std::size_t next = 0;
    return TensorLayout(shape, nested_as(shape, strides, next));
  });
}

/// Strides in any order, each a multiple of the end of those below: injective, and what complement
/// takes. Without gaps bijective.
inline rc::Gen<TensorLayout> nesting_layout(bool with_gaps, std::int64_t max_size = 150) {
  return rc::gen::exec([=] {
    std::int64_t budget = max_size;
    const IntTuple shape = any_shape(2, budget);
    const auto sizes = flatten(shape);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      order.insert(
          order.begin() + *rc::gen::inRange<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(i) + 1),
          i);
    }
    std::vector<std::int64_t> strides(sizes.size());
    std::int64_t end = 1;
    for (const std::size_t i : order) {
      strides[i] = end * (with_gaps ? *rc::gen::inRange<std::int64_t>(1, 4) : 1);
      end = strides[i] * sizes[i];
    }
    std::size_t next = 0;
    return TensorLayout(shape, nested_as(shape, strides, next));
  });
}

inline std::vector<std::int64_t> offsets(const TensorLayout& layout) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < layout.size(); ++i) out.push_back(layout(i));
  return out;
}

inline std::vector<std::int64_t> sorted(std::vector<std::int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

/// Whether every coordinate of shape `coarse` is one of `fine`.
inline bool refines(const IntTuple& fine, const IntTuple& coarse) {
  if (coarse.is_integer()) return num_coordinates(fine) == coarse.value();
  if (fine.is_integer() || fine.rank() != coarse.rank()) return false;
  for (std::size_t i = 0; i < fine.items().size(); ++i) {
    if (!refines(fine.items()[i], coarse.items()[i])) return false;
  }
  return true;
}

}  // namespace switchyard
