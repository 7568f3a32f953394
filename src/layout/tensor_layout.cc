#include <fmt/format.h>

#include "layout/checked.h"
#include "switchyard/layout.h"

namespace switchyard {
namespace {

/// Strides of `shape`, each the product of the sizes visited before it.
IntTuple running_products(const IntTuple& shape, bool from_left, std::int64_t& product) {
  if (shape.is_integer()) {
    const std::int64_t stride = product;
    product = checked_product(product, shape.value(), [] { return "the size of a layout"; });
    return stride;
  }
  std::vector<IntTuple> strides(shape.items().size(), 0);
  for (std::size_t n = 0; n < strides.size(); ++n) {
    const std::size_t i = from_left ? n : strides.size() - 1 - n;
    strides[i] = running_products(shape.items()[i], from_left, product);
  }
  return IntTuple(std::move(strides));
}

IntTuple compact_stride(const IntTuple& shape, bool from_left) {
  num_coordinates(shape);  // sizes are positive and their product fits
  std::int64_t product = 1;
  return running_products(shape, from_left, product);
}

bool is_congruent(const IntTuple& a, const IntTuple& b) {
  if (a.is_integer() || b.is_integer()) return a.is_integer() && b.is_integer();
  if (a.rank() != b.rank()) return false;
  for (std::size_t i = 0; i < a.items().size(); ++i) {
    if (!is_congruent(a.items()[i], b.items()[i])) return false;
  }
  return true;
}

}  // namespace

TensorLayout::TensorLayout(const IntTuple& shape)
    : TensorLayout(shape, compact_stride(shape, true)) {}

TensorLayout TensorLayout::row_major(const IntTuple& shape) {
  return {shape, compact_stride(shape, false)};
}

TensorLayout::TensorLayout(IntTuple shape, IntTuple stride)
    : shape_(std::move(shape)), stride_(std::move(stride)) {
  require_that(is_congruent(shape_, stride_), [&] {
    return fmt::format("stride {} does not have the nesting of shape {}", to_string(stride_),
                       to_string(shape_));
  });
  size_ = num_coordinates(shape_);
  const auto sizes = flatten(shape_), strides = flatten(stride_);
  const auto what = [&] { return "the cosize of " + to_string(*this); };
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    require_that(strides[i] >= 0, [&] {
      return fmt::format("layout {} has a stride of {}: expected at least 0", to_string(*this),
                         strides[i]);
    });
    leaves_.push_back({sizes[i], strides[i]});
    cosize_ = checked_sum(cosize_, checked_product(sizes[i] - 1, strides[i], what), what);
  }
}

TensorLayout TensorLayout::mode(int i) const {
  require_that(i >= 0 && i < rank(), [&] {
    return fmt::format("layout {} has no mode {}: expected 0 to {}", to_string(*this), i,
                       rank() - 1);
  });
  if (shape_.is_integer()) return *this;
  const auto index = static_cast<std::size_t>(i);
  return {shape_.items()[index], stride_.items()[index]};
}

std::int64_t TensorLayout::operator()(const IntTuple& coordinate) const {
  return crd2idx(coordinate, shape_, stride_);
}

std::int64_t TensorLayout::extended(std::int64_t index) const {
  require_that(index >= 0, [&] {
    return fmt::format("coordinate {} of layout {} is negative", index, to_string(*this));
  });
  const auto what = [&] { return "an offset beyond the size of " + to_string(*this); };
  std::int64_t offset = 0;
  for (std::size_t i = 0; i + 1 < leaves_.size(); ++i) {
    offset += index % leaves_[i].size * leaves_[i].stride;
    index /= leaves_[i].size;
  }
  return checked_sum(offset, checked_product(index, leaves_.back().stride, what), what);
}

std::string to_string(const TensorLayout& layout) {
  return to_string(layout.shape()) + ':' + to_string(layout.stride());
}

TensorLayout concatenate(std::span<const TensorLayout> modes) {
  std::vector<IntTuple> shapes, strides;
  for (const TensorLayout& mode : modes) {
    shapes.push_back(mode.shape());
    strides.push_back(mode.stride());
  }
  return {IntTuple(std::move(shapes)), IntTuple(std::move(strides))};
}

TensorLayout concatenate(const TensorLayout& first, const TensorLayout& second) {
  const TensorLayout modes[] = {first, second};
  return concatenate(modes);
}

}  // namespace switchyard
