#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "layout/checked.h"
#include "switchyard/layout.h"

namespace switchyard {
namespace {

using Leaf = TensorLayout::Leaf;

std::string text_of(const Leaf& leaf) { return fmt::format("{}:{}", leaf.size, leaf.stride); }

/// The last leaf of a composition's left side says how it goes on beyond its size, so it may not
/// vanish even when it has size 1.
enum class LastLeaf { may_vanish, stays };

/// The same function with the fewest leaves: those of size 1 dropped, those that continue the one
/// before them joined to it.
std::vector<Leaf> merged(std::span<const Leaf> leaves, LastLeaf last) {
  std::vector<Leaf> out;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const bool stays = last == LastLeaf::stays && i + 1 == leaves.size();
    if (leaves[i].size == 1 && !stays) continue;
    std::int64_t end = 0;
    if (!out.empty() && !__builtin_mul_overflow(out.back().size, out.back().stride, &end) &&
        end == leaves[i].stride) {
      out.back().size *= leaves[i].size;
    } else {
      out.push_back(leaves[i]);
    }
  }
  return out;
}

TensorLayout layout_of(std::span<const Leaf> leaves) {
  if (leaves.empty()) return {};
  if (leaves.size() == 1) return {leaves[0].size, leaves[0].stride};
  std::vector<IntTuple> shape, stride;
  for (const Leaf& leaf : leaves) {
    shape.emplace_back(leaf.size);
    stride.emplace_back(leaf.stride);
  }
  return {IntTuple(std::move(shape)), IntTuple(std::move(stride))};
}

void require_modes(const TensorLayout& layout, std::size_t count, std::string_view what) {
  require(count >= 1 && count <= static_cast<std::size_t>(layout.rank()),
          "{} has {} modes for layout {}: expected 1 to {}", what, count, to_string(layout),
          layout.rank());
}

/// The modes of `layout`, each but those beyond the tiler's put through apply(mode, tile).
template <class Apply>
TensorLayout by_mode(const TensorLayout& layout, const Tiler& tiler, Apply apply) {
  require_modes(layout, tiler.modes.size(), "the tiler");
  std::vector<TensorLayout> modes;
  for (int i = 0; i < layout.rank(); ++i) {
    const auto index = static_cast<std::size_t>(i);
    const bool is_tiled = index < tiler.modes.size();
    modes.push_back(is_tiled ? apply(layout.mode(i), tiler.modes[index]) : layout.mode(i));
  }
  return concatenate(modes);
}

/// composition, one leaf of b after the other. A leaf s:d of b visits the integers 0, d, 2d, ...
/// Written as digits in a's leaves, the first leaf's first, they advance evenly until a digit has
/// no room left; what comes then repeats the run, and is a layout only if it never carries.
class Composition {
 public:
  Composition(const TensorLayout& a, const TensorLayout& b)
      : a_text_(to_string(a)),
        b_text_(to_string(b)),
        a_(merged(a.leaves(), LastLeaf::stays)),
        largest_digit_(a_.size(), 0) {}

  TensorLayout of(const IntTuple& shape, const IntTuple& stride) {
    if (shape.is_integer()) return of({shape.value(), stride.value()});
    std::vector<TensorLayout> modes;
    for (std::size_t i = 0; i < shape.items().size(); ++i) {
      modes.push_back(of(shape.items()[i], stride.items()[i]));
    }
    return concatenate(modes);
  }

 private:
  TensorLayout of(const Leaf& leaf) {
    if (leaf.size == 1 || leaf.stride == 0) return {leaf.size, 0};
    std::vector<Leaf> out;
    std::int64_t rest = leaf.size, step = leaf.stride;
    while (rest > 1) {
      const std::vector<std::int64_t> digits = digits_of(step);
      const std::int64_t count = std::min(rest, run_length(digits));
      require_that(rest % count == 0, [&] {
        return fmt::format(
            "composition of {} with {} is no layout: under {} of the second, modes of the first "
            "are "
            "used up after {} of {} elements: expected a multiple of {}",
            a_text_, b_text_, text_of(leaf), count, rest, count);
      });
      out.push_back({count, offset_of(digits)});
      add(leaf, digits, count - 1);
      rest /= count;
      if (rest > 1) step *= count;
    }
    return layout_of(out);
  }

  std::vector<std::int64_t> digits_of(std::int64_t index) const {
    std::vector<std::int64_t> digits;
    for (std::size_t i = 0; i + 1 < a_.size(); ++i) {
      digits.push_back(index % a_[i].size);
      index /= a_[i].size;
    }
    digits.push_back(index);
    return digits;
  }

  /// How many multiples of `digits`, from 0 on, have no carry. The last leaf has room for any.
  std::int64_t run_length(const std::vector<std::int64_t>& digits) const {
    std::int64_t last = std::numeric_limits<std::int64_t>::max() - 1;
    for (std::size_t i = 0; i + 1 < a_.size(); ++i) {
      if (digits[i] > 0) last = std::min(last, (a_[i].size - 1) / digits[i]);
    }
    return last + 1;
  }

  std::int64_t offset_of(const std::vector<std::int64_t>& digits) const {
    const auto what = [&] { return "a stride of " + a_text_ + " composed with " + b_text_; };
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < a_.size(); ++i) {
      offset = checked_sum(offset, checked_product(digits[i], a_[i].stride, what), what);
    }
    return offset;
  }

  /// Runs, of one leaf of b and of several, add up.
  void add(const Leaf& leaf, const std::vector<std::int64_t>& digits, std::int64_t times) {
    for (std::size_t i = 0; i + 1 < a_.size(); ++i) {
      const std::int64_t before = largest_digit_[i], added = digits[i] * times;
      require_that(added <= a_[i].size - 1 - before, [&] {
        return fmt::format(
            "composition of {} with {} is no layout: {} of the second makes coordinates add up to "
            "{} + {} in mode {} of the first: expected at most {}",
            a_text_, b_text_, text_of(leaf), before, added, text_of(a_[i]), a_[i].size - 1);
      });
      largest_digit_[i] += added;
    }
  }

  std::string a_text_, b_text_;
  std::vector<Leaf> a_;
  std::vector<std::int64_t> largest_digit_;  // of each leaf of a but the last
};

}  // namespace

TensorLayout coalesce(const TensorLayout& layout) {
  return layout_of(merged(layout.leaves(), LastLeaf::may_vanish));
}

TensorLayout coalesce(const TensorLayout& layout, const IntTuple& profile) {
  if (profile.is_integer()) return coalesce(layout);
  require_modes(layout, profile.items().size(), "profile " + to_string(profile));
  std::vector<TensorLayout> modes;
  for (int i = 0; i < layout.rank(); ++i) {
    const bool is_named = i < profile.rank();
    modes.push_back(is_named ? coalesce(layout.mode(i), profile.items()[static_cast<size_t>(i)])
                             : layout.mode(i));
  }
  return concatenate(modes);
}

TensorLayout composition(const TensorLayout& a, const TensorLayout& b) {
  return Composition(a, b).of(b.shape(), b.stride());
}

TensorLayout composition(const TensorLayout& a, const Tiler& b) {
  return by_mode(a, b, [](const TensorLayout& mode, const TensorLayout& tile) {
    return composition(mode, tile);
  });
}

TensorLayout complement(const TensorLayout& layout, std::int64_t cotarget) {
  require(cotarget >= 1, "the complement of {} is asked for up to {}: expected at least 1",
          to_string(layout), cotarget);
  std::vector<Leaf> leaves;
  for (const Leaf& leaf : layout.leaves()) {
    if (leaf.size > 1 && leaf.stride > 0) leaves.push_back(leaf);
  }
  std::sort(leaves.begin(), leaves.end(),
            [](const Leaf& a, const Leaf& b) { return a.stride < b.stride; });
  std::vector<Leaf> holes;
  std::int64_t covered = 1;
  for (const Leaf& leaf : leaves) {
    require(leaf.stride % covered == 0,
            "complement of {}: mode {} has a stride that is no multiple of {}, where the modes of "
            "smaller stride end",
            to_string(layout), text_of(leaf), covered);
    holes.push_back({leaf.stride / covered, covered});
    covered = checked_product(leaf.size, leaf.stride,
                              [&] { return "the complement of " + to_string(layout); });
  }
  holes.push_back({ceil_div(cotarget, covered), covered});
  return layout_of(merged(holes, LastLeaf::may_vanish));
}

TensorLayout complement(const TensorLayout& layout) { return complement(layout, layout.cosize()); }

TensorLayout logical_divide(const TensorLayout& a, const TensorLayout& b) {
  return composition(a, concatenate(b, complement(b, a.size())));
}

TensorLayout logical_divide(const TensorLayout& a, const Tiler& b) {
  return by_mode(a, b, [](const TensorLayout& mode, const TensorLayout& tile) {
    return logical_divide(mode, tile);
  });
}

TensorLayout zipped_divide(const TensorLayout& a, const TensorLayout& b) {
  return logical_divide(a, b);
}

TensorLayout zipped_divide(const TensorLayout& a, const Tiler& b) {
  const TensorLayout divided = logical_divide(a, b);
  std::vector<TensorLayout> tiles, rests;
  for (int i = 0; i < divided.rank(); ++i) {
    const TensorLayout mode = divided.mode(i);
    if (static_cast<std::size_t>(i) < b.modes.size()) {
      tiles.push_back(mode.mode(0));
      rests.push_back(mode.mode(1));
    } else {
      rests.push_back(mode);
    }
  }
  return concatenate(concatenate(tiles), concatenate(rests));
}

TensorLayout logical_product(const TensorLayout& a, const TensorLayout& b) {
  const std::int64_t cotarget =
      checked_product(a.size(), b.cosize(), [] { return "the size of a logical_product"; });
  return concatenate(a, composition(complement(a, cotarget), b));
}

TensorLayout right_inverse(const TensorLayout& layout) {
  const std::vector<Leaf> leaves = merged(layout.leaves(), LastLeaf::may_vanish);
  std::vector<Leaf> inverse;
  std::int64_t next = 1;  // the first offset not reached yet
  while (true) {
    const Leaf* found = nullptr;
    std::int64_t before = 1, found_before = 1;  // sizes of the leaves to the left
    for (const Leaf& leaf : leaves) {
      if (leaf.stride == next && (found == nullptr || leaf.size > found->size)) {
        found = &leaf;
        found_before = before;
      }
      before *= leaf.size;
    }
    if (found == nullptr) break;
    inverse.push_back({found->size, found_before});
    if (__builtin_mul_overflow(found->size, found->stride, &next)) break;
  }
  return layout_of(merged(inverse, LastLeaf::may_vanish));
}

TensorLayout left_inverse(const TensorLayout& layout) {
  for (const Leaf& leaf : layout.leaves()) {
    require(leaf.size == 1 || leaf.stride > 0,
            "layout {} has no left inverse: mode {} maps {} coordinates to one offset",
            to_string(layout), text_of(leaf), leaf.size);
  }
  return right_inverse(concatenate(layout, complement(layout)));
}

}  // namespace switchyard
