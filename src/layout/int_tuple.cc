#include <fmt/format.h>

#include <algorithm>

#include "layout/checked.h"
#include "switchyard/layout.h"

namespace switchyard {
namespace {

void append(const IntTuple& tuple, std::string& out) {
  if (tuple.is_integer()) {
    out += fmt::format("{}", tuple.value());
    return;
  }
  out += '(';
  for (std::size_t i = 0; i < tuple.items().size(); ++i) {
    if (i > 0) out += ',';
    append(tuple.items()[i], out);
  }
  out += ')';
}

void append(const IntTuple& tuple, std::vector<std::int64_t>& out) {
  if (tuple.is_integer()) out.push_back(tuple.value());
  for (const IntTuple& item : tuple.items()) append(item, out);
}

void require_coordinate(std::int64_t index, std::int64_t size, const IntTuple& shape) {
  require_that(index >= 0 && index < size, [&] {
    return fmt::format("coordinate {} is outside {}: expected 0 to {}", index, to_string(shape),
                       size - 1);
  });
}

void require_modes(const IntTuple& coordinate, const IntTuple& shape) {
  require_that(!shape.is_integer() && coordinate.rank() == shape.rank(), [&] {
    return fmt::format("coordinate {} does not fit {}: expected an integer{}",
                       to_string(coordinate), to_string(shape),
                       shape.is_integer() ? "" : fmt::format(" or a tuple of {}", shape.rank()));
  });
}

void require_congruent(bool holds, const IntTuple& shape, const IntTuple& stride) {
  require_that(holds, [&] {
    return fmt::format("stride {} does not have the nesting of shape {}", to_string(stride),
                       to_string(shape));
  });
}

void multiply(const IntTuple& shape, const IntTuple& whole, std::int64_t& product) {
  for (const IntTuple& item : shape.items()) multiply(item, whole, product);
  if (!shape.is_integer()) return;
  require_that(shape.value() >= 1, [&] {
    return fmt::format("shape {} has a size of {}: expected at least 1", to_string(whole),
                       shape.value());
  });
  product =
      checked_product(product, shape.value(), [&] { return "the size of " + to_string(whole); });
}

/// The offset of `index`, of which the coordinates of `shape` are taken off.
template <class What>
std::int64_t walk(const IntTuple& shape, const IntTuple& stride, std::int64_t& index,
                  const What& what) {
  require_congruent(shape.items().size() == stride.items().size(), shape, stride);
  if (shape.is_integer()) {
    const std::int64_t own = index % shape.value();
    index /= shape.value();
    return checked_product(own, stride.value(), what);
  }
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < shape.items().size(); ++i) {
    offset = checked_sum(offset, walk(shape.items()[i], stride.items()[i], index, what), what);
  }
  return offset;
}

}  // namespace

IntTuple::IntTuple(std::vector<IntTuple> items) : items_(std::move(items)) {
  require(!items_.empty(), "a tuple is empty: expected at least one item");
}

std::int64_t IntTuple::value() const {
  require_that(is_integer(), [&] { return to_string(*this) + " is a tuple: expected an integer"; });
  return value_;
}

int IntTuple::rank() const noexcept { return is_integer() ? 1 : static_cast<int>(items_.size()); }

int IntTuple::depth() const noexcept {
  int deepest = -1;
  for (const IntTuple& item : items_) deepest = std::max(deepest, item.depth());
  return deepest + 1;
}

bool IntTuple::operator==(const IntTuple& other) const noexcept {
  return value_ == other.value_ &&
         std::equal(items_.begin(), items_.end(), other.items_.begin(), other.items_.end());
}

std::string to_string(const IntTuple& tuple) {
  std::string out;
  append(tuple, out);
  return out;
}

std::vector<std::int64_t> flatten(const IntTuple& tuple) {
  std::vector<std::int64_t> out;
  append(tuple, out);
  return out;
}

std::int64_t num_coordinates(const IntTuple& shape) {
  std::int64_t product = 1;
  multiply(shape, shape, product);
  return product;
}

IntTuple idx2crd(std::int64_t index, const IntTuple& shape) {
  const std::int64_t size = num_coordinates(shape);
  require_coordinate(index, size, shape);
  if (shape.is_integer()) return index;
  std::vector<IntTuple> items;
  for (const IntTuple& item : shape.items()) {
    const std::int64_t item_size = num_coordinates(item);
    items.push_back(idx2crd(index % item_size, item));
    index /= item_size;
  }
  return IntTuple(std::move(items));
}

std::int64_t crd2idx(const IntTuple& coordinate, const IntTuple& shape, const IntTuple& stride) {
  const auto what = [&] { return "the offset of " + to_string(coordinate); };
  if (coordinate.is_integer()) {
    require_coordinate(coordinate.value(), num_coordinates(shape), shape);
    std::int64_t index = coordinate.value();
    return walk(shape, stride, index, what);
  }
  require_modes(coordinate, shape);
  require_congruent(!stride.is_integer() && stride.rank() == shape.rank(), shape, stride);
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < shape.items().size(); ++i) {
    const std::int64_t step = crd2idx(coordinate.items()[i], shape.items()[i], stride.items()[i]);
    offset = checked_sum(offset, step, what);
  }
  return offset;
}

std::int64_t crd2idx(const IntTuple& coordinate, const IntTuple& shape) {
  return crd2idx(coordinate, shape, TensorLayout(shape).stride());
}

}  // namespace switchyard
