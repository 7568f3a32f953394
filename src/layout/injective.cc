#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "switchyard/layout.h"

namespace switchyard {
namespace {

using Leaf = TensorLayout::Leaf;
__extension__ using Wide = __int128;

/// Two coordinates meet when their difference x, |x_i| < size_i and not all zero, has
/// sum x_i * stride_i = 0. Looks for one, from the largest stride down: what the strides below can
/// still undo bounds each x_i, and their greatest common divisor must divide what is left.
class MeetingSearch {
 public:
  explicit MeetingSearch(std::vector<Leaf> leaves) : leaves_(std::move(leaves)) {
    std::sort(leaves_.begin(), leaves_.end(),
              [](const Leaf& a, const Leaf& b) { return a.stride < b.stride; });
    for (const Leaf& leaf : leaves_) {
      span_.push_back((span_.empty() ? 0 : span_.back()) + (leaf.size - 1) * leaf.stride);
      divisor_.push_back(std::gcd(divisor_.empty() ? 0 : divisor_.back(), leaf.stride));
    }
  }

  std::optional<bool> meets() {
    const bool found = search(leaves_.size(), 0, false);
    if (steps_ > kMaxSteps) return std::nullopt;
    return found;
  }

 private:
  static constexpr int kMaxSteps = 1'000'000;

  // Whether the first `count` leaves can bring `left` to zero.
  bool search(std::size_t count, Wide left, bool is_nonzero) {
    if (++steps_ > kMaxSteps) return false;
    if (count == 0) return left == 0 && is_nonzero;
    if (left == 0 && is_nonzero) return true;
    const Leaf& leaf = leaves_[count - 1];
    const Wide below = count > 1 ? span_[count - 2] : 0;
    if (left > below + (leaf.size - 1) * Wide{leaf.stride} ||
        -left > below + (leaf.size - 1) * Wide{leaf.stride} || left % divisor_[count - 1] != 0) {
      return false;
    }
    // |left + x * stride| <= below; by symmetry the first x that is not zero is positive
    const Wide least = is_nonzero ? -(leaf.size - 1) : 0;
    const Wide from = std::max(least, div_up(-below - left, leaf.stride));
    const Wide to = std::min(Wide{leaf.size - 1}, div_down(below - left, leaf.stride));
    for (Wide x = from; x <= to; ++x) {
      if (search(count - 1, left + x * leaf.stride, is_nonzero || x != 0)) return true;
      if (steps_ > kMaxSteps) return false;
    }
    return false;
  }

  static Wide div_down(Wide a, Wide b) { return a / b - (a % b < 0 ? 1 : 0); }
  static Wide div_up(Wide a, Wide b) { return -div_down(-a, b); }

  std::vector<Leaf> leaves_;
  std::vector<Wide> span_;             // of the leaves up to this one
  std::vector<std::int64_t> divisor_;  // of the strides up to this one
  int steps_ = 0;
};

}  // namespace

std::optional<bool> is_injective(const TensorLayout& layout) {
  std::vector<Leaf> leaves;
  for (const Leaf& leaf : layout.leaves()) {
    if (leaf.size == 1) continue;
    if (leaf.stride == 0) return false;
    leaves.push_back(leaf);
  }
  if (layout.size() > layout.cosize()) return false;
  const std::optional<bool> meets = MeetingSearch(std::move(leaves)).meets();
  if (!meets) return std::nullopt;
  return !*meets;
}

std::optional<bool> is_bijective(const TensorLayout& layout) {
  if (layout.size() != layout.cosize()) return false;
  return is_injective(layout);
}

}  // namespace switchyard
