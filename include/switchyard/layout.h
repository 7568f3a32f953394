#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Layouts as values: where each element of a tensor lies, as a function that can be composed,
/// divided and inverted. (`Layout` in plan.h only names how expert rows lie.)
///
/// A layout is a shape and a stride of the same nesting, written shape:stride, as in
/// (4,(2,3)):(1,(4,8)). Its coordinate is an integer, or a tuple with one coordinate for each mode;
/// an integer runs through what it stands for with the first mode fastest (colexicographic), and
/// the offset is the sum of coordinates times strides. So a layout is also a function from integers
/// to integers, and that is what the operations below are about.
///
/// The algebra is CuTe's: Cecka, "CuTe Layout Representation and Algebra" (2026), and the page
/// "CuTe Layout Algebra" of NVIDIA's CUTLASS; conditions also after Shah, "A note on the algebra of
/// CuTe layouts" (Colfax 2024). Sizes are at least 1 and strides at least 0, all of them run-time
/// values of 64 bits; what does not fit throws Error(invalid_argument), as does every other broken
/// condition, with a sentence that names the mode and the numbers.

namespace switchyard {

/// An integer or a tuple of such, nested at will: 4, (4,2), (4,(2,3)). Never an empty tuple.
class IntTuple {
 public:
  IntTuple(std::int64_t value) : value_(value) {}  // NOLINT: an integer is one
  explicit IntTuple(std::vector<IntTuple> items);

  bool is_integer() const noexcept { return items_.empty(); }
  /// Throws for a tuple.
  std::int64_t value() const;
  /// None for an integer.
  const std::vector<IntTuple>& items() const noexcept { return items_; }
  /// Number of items; 1 for an integer.
  int rank() const noexcept;
  /// 0 for an integer, else one more than the deepest item.
  int depth() const noexcept;
  bool operator==(const IntTuple& other) const noexcept;

 private:
  std::int64_t value_ = 0;
  std::vector<IntTuple> items_;
};

/// int_tuple(4, int_tuple(2, 3)) is (4,(2,3)).
template <class... Items>
IntTuple int_tuple(const Items&... items) {
  return IntTuple(std::vector<IntTuple>{IntTuple(items)...});
}

/// "(4,(2,3))"
std::string to_string(const IntTuple& tuple);

/// How many coordinates a shape has: the product of its integers.
std::int64_t num_coordinates(const IntTuple& shape);
/// The integers of a tuple, from left to right.
std::vector<std::int64_t> flatten(const IntTuple& tuple);
/// The coordinate with the nesting of `shape` that the integer `index`, in [0, size), stands for.
IntTuple idx2crd(std::int64_t index, const IntTuple& shape);
/// The offset of a coordinate: an integer, or a tuple with a coordinate for each item of `shape`.
std::int64_t crd2idx(const IntTuple& coordinate, const IntTuple& shape, const IntTuple& stride);
/// The integer that stands for a coordinate: the inverse of idx2crd.
std::int64_t crd2idx(const IntTuple& coordinate, const IntTuple& shape);

class TensorLayout {
 public:
  struct Leaf {
    std::int64_t size;
    std::int64_t stride;
  };

  /// 1:0
  TensorLayout() : TensorLayout(1, 0) {}
  /// Column-major: strides are the products of the sizes before, through all nesting.
  explicit TensorLayout(const IntTuple& shape);
  /// `stride` has the nesting of `shape`.
  TensorLayout(IntTuple shape, IntTuple stride);
  /// Strides are the products of the sizes after.
  static TensorLayout row_major(const IntTuple& shape);

  const IntTuple& shape() const noexcept { return shape_; }
  const IntTuple& stride() const noexcept { return stride_; }
  /// The innermost modes, from left to right.
  std::span<const Leaf> leaves() const noexcept { return leaves_; }
  int rank() const noexcept { return shape_.rank(); }
  int depth() const noexcept { return shape_.depth(); }
  /// Number of coordinates.
  std::int64_t size() const noexcept { return size_; }
  /// One more than the largest offset.
  std::int64_t cosize() const noexcept { return cosize_; }
  /// Mode i in [0, rank); the layout of one integer is its own mode 0.
  TensorLayout mode(int i) const;

  /// The offset at a coordinate within the shape.
  std::int64_t operator()(const IntTuple& coordinate) const;
  /// layout(row, column): one coordinate for each mode.
  template <class First, class Second, class... More>
  std::int64_t operator()(const First& first, const Second& second, const More&... more) const {
    return (*this)(int_tuple(first, second, more...));
  }
  /// The offset at any integer >= 0: from size() on the last leaf goes on with its stride.
  std::int64_t extended(std::int64_t index) const;

  bool operator==(const TensorLayout& other) const noexcept {
    return shape_ == other.shape_ && stride_ == other.stride_;
  }

 private:
  IntTuple shape_, stride_;
  std::vector<Leaf> leaves_;
  std::int64_t size_ = 1, cosize_ = 1;
};

/// One layout for each of the first modes of another.
struct Tiler {
  std::vector<TensorLayout> modes;
};

/// "(4,(2,3)):(1,(4,8))"
std::string to_string(const TensorLayout& layout);
/// Reads what to_string writes, nested up to 64 deep; blanks are free, a shape alone is
/// column-major. Throws with the column and what was expected there.
TensorLayout parse_layout(std::string_view text);

/// Whether different coordinates have different offsets. Exact, but there are layouts for which
/// this is as hard as a subset-sum problem: nothing when a million steps have not decided it.
std::optional<bool> is_injective(const TensorLayout& layout);
/// Whether the offsets are [0, size), each once.
std::optional<bool> is_bijective(const TensorLayout& layout);

/// The layout whose modes are these: (3:1, 4:3) is (3,4):(1,3).
TensorLayout concatenate(std::span<const TensorLayout> modes);
TensorLayout concatenate(const TensorLayout& first, const TensorLayout& second);

/// The same function of integers with the fewest modes: depth at most 1.
TensorLayout coalesce(const TensorLayout& layout);
/// Coalesces apart what each integer of `profile` stands for: with (1,1) each of the first two
/// modes. The integers' values mean nothing; modes beyond the profile stay.
TensorLayout coalesce(const TensorLayout& layout, const IntTuple& profile);

/// R(i) = a.extended(b(i)), with modes that refine those of b: a coordinate of b is one of R.
/// Defined where b's coordinates, written as coordinates of a's modes, add up without a carry; then
/// a is linear in them. Strides and sizes of b that divide a's sizes, or are multiples of them,
/// always do. Throws otherwise.
TensorLayout composition(const TensorLayout& a, const TensorLayout& b);
/// Mode by mode; modes of a beyond the tiler's stay.
TensorLayout composition(const TensorLayout& a, const Tiler& b);

/// What `layout` leaves out of [0, cotarget): strides positive and increasing, no offset but 0 in
/// common, cosize(layout, complement) >= cotarget. Modes of stride 0 do not count. Throws unless
/// the other modes, in order of their strides, nest: each stride a multiple of the size times the
/// stride before it.
TensorLayout complement(const TensorLayout& layout, std::int64_t cotarget);
/// Up to its cosize: fills the holes.
TensorLayout complement(const TensorLayout& layout);

/// (tile, rest): a composed with (b, complement(b, size(a))). Mode 0 is the elements b points to,
/// mode 1 the tiles. Where the tile does not divide a, the last tile reaches beyond a's size.
TensorLayout logical_divide(const TensorLayout& a, const TensorLayout& b);
/// Mode by mode: ((tile0, rest0), (tile1, rest1), modes beyond the tiler's...).
TensorLayout logical_divide(const TensorLayout& a, const Tiler& b);
/// The same, gathered: ((tile0, tile1), (rest0, rest1, modes beyond the tiler's...)).
TensorLayout zipped_divide(const TensorLayout& a, const Tiler& b);
/// logical_divide.
TensorLayout zipped_divide(const TensorLayout& a, const TensorLayout& b);

/// (a, complement(a, size(a) * cosize(b)) composed with b): a repeated as b says.
TensorLayout logical_product(const TensorLayout& a, const TensorLayout& b);

/// R with layout(R(i)) = i for all i in [0, size(R)), found by following modes whose strides
/// continue one another from 1 on. All of the layout's offsets when it is bijective.
TensorLayout right_inverse(const TensorLayout& layout);
/// R with R(layout(i)) = i for all i in [0, size(layout)). Throws where complement does, and where
/// a mode of stride 0 makes different coordinates meet.
TensorLayout left_inverse(const TensorLayout& layout);

}  // namespace switchyard
