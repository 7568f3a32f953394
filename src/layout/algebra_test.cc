// The laws of the algebra on random layouts, and the published examples of CuTe's.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <set>

#include "layout/expression.h"
#include "layout/layout_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using Values = std::vector<std::int64_t>;

// Examples of "CuTe Layout Algebra" and "CuTe Layouts" (media/docs/cpp/cute in NVIDIA/cutlass), and
// of the unit tests of composition (test/unit/cute/core) where a last mode is extended. <A,B> is a
// tiler, as there.
const struct {
  const char* expression;
  const char* expected;
} kPublished[] = {
    {"coalesce((2,(1,6)):(1,(6,2)))", "12:1"},
    {"coalesce((2,(1,6)):(1,(6,2)), (1,1))", "(2,6):(1,2)"},
    {"coalesce((2,4):(1,2))", "8:1"},
    {"(6,2):(8,2) o (4,3):(3,1)", "((2,2),3):((24,2),8)"},
    {"(6,2):(8,2) o 4:3", "(2,2):(24,2)"},
    {"(6,2):(8,2) o 3:1", "3:8"},
    {"20:2 o (5,4):(4,1)", "(5,4):(8,2)"},
    {"(10,2):(16,4) o (5,4):(1,5)", "(5,(2,2)):(16,(80,4))"},
    // (3,6,2,8):(w,x,y,z) o 16:9 = (1,2,2,4):(9w,3x,y,z); here w, x, y, z keep apart
    {"(3,6,2,8):(1,100,10000,1000000) o 16:9", "(2,2,4):(300,10000,1000000)"},
    {"composition((12,(4,8)):(59,(13,1)), <3:4,8:2>)", "(3,(2,4)):(236,(26,1))"},
    {"composition((12,(4,8)):(59,(13,1)), <3,8>)", "(3,(4,2)):(59,(13,1))"},
    {"(4,3):(3,1) o 24", "(4,6):(3,1)"},
    {"(4,3):(3,1) o 8", "(4,2):(3,1)"},
    {"(4,3,1):(3,1,0) o 24", "(4,3,2):(3,1,0)"},
    {"(128,24,5):(1,128,3072) o 480:32", "480:32"},
    {"(8,8):(8,1) o ((2,2,2),(2,2,2)):((1,16,4),(8,2,32))",
     "((2,2,2),(2,2,2)):((8,2,32),(1,16,4))"},
    {"complement(4:1, 24)", "6:4"},
    {"complement(6:4, 24)", "4:1"},
    {"complement((4,6):(1,4), 24)", "1:0"},
    {"complement(4:2, 24)", "(2,3):(1,8)"},
    {"complement((2,4):(1,6), 24)", "3:2"},
    {"complement((2,2):(1,6), 24)", "(3,2):(2,12)"},
    {"logical_divide((4,2,3):(2,1,8), 4:2)", "((2,2),(2,3)):((4,1),(2,8))"},
    {"logical_divide((9,(4,8)):(59,(13,1)), <3:3,(2,4):(1,8)>)",
     "((3,3),((2,4),(2,2))):((177,59),((13,2),(26,1)))"},
    {"zipped_divide((9,(4,8)):(59,(13,1)), <3:3,(2,4):(1,8)>)",
     "((3,(2,4)),(3,(2,2))):((177,(13,2)),(59,(26,1)))"},
    {"composition((9,(4,8)):(59,(13,1)), <3:3,(2,4):(1,8)>)", "(3,(2,4)):(177,(13,2))"},
    {"logical_product((2,2):(4,1), 6:1)", "((2,2),(2,3)):((4,1),(2,8))"},
    {"logical_product((2,2):(4,1), (4,2):(2,1))", "((2,2),(4,2)):((4,1),(8,2))"},
};

TEST(Algebra, AgreesWithThePublishedExamplesOfCute) {
  for (const auto& [expression, expected] : kPublished) {
    EXPECT_EQ(to_string(evaluate_layout(expression)), expected) << expression;
  }
}

RC_GTEST_PROP(Coalesce, KeepsTheFunctionWithTheFewestModes, ()) {
  const TensorLayout layout = *any_layout();
  const TensorLayout result = coalesce(layout);
  RC_ASSERT(offsets(result) == offsets(layout));
  RC_ASSERT(result.depth() <= 1);
  const auto leaves = result.leaves();
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    RC_ASSERT(leaves[i].size > 1 || leaves.size() == 1);
    // RC_ASSERT evaluates both sides of ||
    if (i > 0) RC_ASSERT(leaves[i - 1].size * leaves[i - 1].stride != leaves[i].stride);
  }
}

RC_GTEST_PROP(Coalesce, ByModeKeepsTheModes, ()) {
  const TensorLayout layout = concatenate(*any_layout(30), *any_layout(30));
  const TensorLayout result = coalesce(layout, int_tuple(1, 1));
  RC_ASSERT(result.mode(0) == coalesce(layout.mode(0)));
  RC_ASSERT(result.mode(1) == coalesce(layout.mode(1)));
  RC_ASSERT(coalesce(layout, int_tuple(1)).mode(1) == layout.mode(1));
}

/// Whether there is a layout of one mode with these values: its first leaf is as long as the values
/// go on evenly, what it repeats at its multiples is the rest.
bool is_a_layout(const Values& values) {
  if (values[0] != 0) return false;
  if (values.size() == 1) return true;
  std::size_t run = 1;
  while (run < values.size() && values[run] == static_cast<std::int64_t>(run) * values[1]) ++run;
  if (run == values.size()) return values[1] >= 0;
  if (values[1] < 0 || values.size() % run != 0) return false;
  Values rest;
  for (std::size_t i = 0; i < values.size(); i += run) rest.push_back(values[i]);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != values[i % run] + rest[i / run]) return false;
  }
  return is_a_layout(rest);
}

/// Whether there is a layout whose modes refine b's with these values: one for each leaf of b, and
/// all values are sums of theirs.
bool is_a_layout_over(const Values& values, const TensorLayout& b) {
  Values sum(values.size(), 0);
  std::size_t before = 1;
  for (const TensorLayout::Leaf& leaf : b.leaves()) {
    const auto size = static_cast<std::size_t>(leaf.size);
    Values own;
    for (std::size_t i = 0; i < size; ++i) own.push_back(values[i * before]);
    if (!is_a_layout(own)) return false;
    for (std::size_t i = 0; i < values.size(); ++i) sum[i] += own[i / before % size];
    before *= size;
  }
  return sum == values;
}

Values composed_values(const TensorLayout& a, const TensorLayout& b) {
  Values values;
  for (std::int64_t i = 0; i < b.size(); ++i) values.push_back(a.extended(b(i)));
  return values;
}

RC_GTEST_PROP(Composition, IsAOfB, ()) {
  const TensorLayout a = *any_layout(), b = *any_layout(60);
  try {
    const TensorLayout r = composition(a, b);
    RC_ASSERT(offsets(r) == composed_values(a, b));
    RC_ASSERT(refines(r.shape(), b.shape()));
  } catch (const Error&) {
    RC_DISCARD("not defined");
  }
}

// Defined exactly when there is a layout. (Strides far apart: a carry always shows.)
RC_GTEST_PROP(Composition, IsDefinedWheneverThereIsALayout, ()) {
  const TensorLayout b = *any_layout(60);
  std::vector<IntTuple> sizes, strides;
  const int rank = *rc::gen::inRange(1, 5);
  std::int64_t stride = 1;
  for (int i = 0; i < rank; ++i, stride *= 1000) {
    const auto at = *rc::gen::inRange<std::ptrdiff_t>(0, i + 1);
    sizes.emplace_back(*rc::gen::inRange<std::int64_t>(1, 9));
    strides.insert(strides.begin() + at, stride);
  }
  const TensorLayout a{IntTuple(sizes), IntTuple(strides)};
  const bool exists = is_a_layout_over(composed_values(a, b), b);
  RC_CLASSIFY(exists, "defined");
  if (exists) {
    RC_ASSERT(offsets(composition(a, b)) == composed_values(a, b));
  } else {
    RC_ASSERT_THROWS_AS(composition(a, b), Error);
  }
}

RC_GTEST_PROP(Composition, OfBijectionsIsOneAndIdentitiesDoNothing, ()) {
  const TensorLayout layout = *nesting_layout(true);
  RC_ASSERT(offsets(composition(TensorLayout(layout.cosize(), 1), layout)) == offsets(layout));
  RC_ASSERT(offsets(composition(layout, TensorLayout(layout.size(), 1))) == offsets(layout));
  const TensorLayout column_major(layout.shape());
  RC_ASSERT(offsets(composition(layout, column_major)) == offsets(layout));
}

TEST(Composition, SaysWhatCutsWhat) {
  const auto message = [](const char* expression) {
    try {
      return "no error: " + to_string(evaluate_layout(expression));
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  const std::string stride = message("(6,4):(1,100) o 6:4");
  for (const char* piece : {"(6,4):(1,100) with 6:4", "4 + 4 in mode 6:1", "at most 5"}) {
    EXPECT_NE(stride.find(piece), std::string::npos) << stride;
  }
  const std::string size = message("(4,3):(3,1) o 6");
  for (const char* piece : {"6:1 of the second", "after 4 of 6 elements", "multiple of 4"}) {
    EXPECT_NE(size.find(piece), std::string::npos) << size;
  }
  const std::string carry = message("(4,4):(1,100) o (3,2):(1,3)");
  for (const char* piece : {"2 + 3", "4:1", "at most 3"}) {
    EXPECT_NE(carry.find(piece), std::string::npos) << carry;
  }
  EXPECT_NE(message("complement((2,2):(1,3), 24)").find("multiple of 2"), std::string::npos);
  EXPECT_NE(message("left_inverse((2,2):(1,0))").find("2:0"), std::string::npos);
  EXPECT_NE(message("composition((4,8), <4,8,2>)").find("expected 1 to 2"), std::string::npos);
}

RC_GTEST_PROP(Complement, FillsTheRestInOrder, ()) {
  const TensorLayout layout = *nesting_layout(true, 60);
  const auto cotarget = *rc::gen::inRange<std::int64_t>(1, 600);
  const TensorLayout rest = complement(layout, cotarget);
  const Values own = offsets(layout), others = offsets(rest);
  RC_ASSERT(std::is_sorted(others.begin(), others.end(), std::less_equal<>()));
  const std::set<std::int64_t> owned(own.begin(), own.end());
  for (std::size_t i = 1; i < others.size(); ++i) RC_ASSERT(owned.count(others[i]) == 0u);
  const TensorLayout both = concatenate(layout, rest);
  RC_ASSERT(is_injective(both) == std::optional(true));
  RC_ASSERT(both.cosize() >= cotarget);
  RC_ASSERT(is_bijective(both) == std::optional(true));
  // whole repetitions of the layout with its holes filled, no more than it takes
  const std::int64_t period = layout.size() * complement(layout).size();
  RC_ASSERT(both.cosize() < cotarget + period);
  RC_ASSERT(both.size() % period == 0);
}

RC_GTEST_PROP(Complement, IgnoresStridesOfZero, ()) {
  const TensorLayout layout = *nesting_layout(true, 60);
  const TensorLayout repeated = concatenate(layout, TensorLayout(3, 0));
  RC_ASSERT(complement(repeated, 100) == complement(layout, 100));
}

// Mode 0 holds what b points to, mode 1 its repetitions.
RC_GTEST_PROP(LogicalDivide, IsATilePerColumn, ()) {
  const TensorLayout a = *nesting_layout(false), b = *nesting_layout(true, 12);
  const TensorLayout rest = complement(b, a.size());
  try {
    const TensorLayout divided = logical_divide(a, b);
    RC_ASSERT(divided.rank() == 2);
    RC_ASSERT(divided.mode(0) == composition(a, b));
    for (std::int64_t tile = 0; tile < rest.size(); ++tile) {
      for (std::int64_t i = 0; i < b.size(); ++i) {
        RC_ASSERT(divided(i, tile) == a.extended(b(i) + rest(tile)));
      }
    }
    // where the tiles come out even they are a again, in another order
    if (divided.size() == a.size()) RC_ASSERT(sorted(offsets(divided)) == sorted(offsets(a)));
  } catch (const Error&) {
    RC_DISCARD("not defined");
  }
}

RC_GTEST_PROP(LogicalDivide, TilesThatDivideAreAlwaysDefined, ()) {
  const auto count = *rc::gen::inRange<std::int64_t>(1, 9),
             tile = *rc::gen::inRange<std::int64_t>(1, 9);
  const auto stride = *rc::gen::inRange<std::int64_t>(1, 5);
  const TensorLayout a(count * tile, stride);
  const TensorLayout divided = logical_divide(a, TensorLayout(tile, 1));
  RC_ASSERT(offsets(divided) == offsets(a));
}

RC_GTEST_PROP(ZippedDivide, GathersWhatLogicalDivideMakes, ()) {
  const auto rows = *rc::gen::inRange<std::int64_t>(1, 5),
             columns = *rc::gen::inRange<std::int64_t>(1, 5);
  const auto tile_rows = *rc::gen::inRange<std::int64_t>(1, 5),
             tile_columns = *rc::gen::inRange<std::int64_t>(1, 5);
  const TensorLayout a =
      TensorLayout::row_major(int_tuple(rows * tile_rows, columns * tile_columns));
  const Tiler tiler{{TensorLayout(tile_rows, 1), TensorLayout(tile_columns, 1)}};
  const TensorLayout zipped = zipped_divide(a, tiler), divided = logical_divide(a, tiler);
  RC_ASSERT(zipped.mode(0) == composition(a, tiler));
  for (std::int64_t i = 0; i < rows * tile_rows; ++i) {
    for (std::int64_t j = 0; j < columns * tile_columns; ++j) {
      const std::int64_t offset = zipped(int_tuple(i % tile_rows, j % tile_columns),
                                         int_tuple(i / tile_rows, j / tile_columns));
      RC_ASSERT(offset == a(i, j));
      RC_ASSERT(offset == divided(int_tuple(i % tile_rows, i / tile_rows),
                                  int_tuple(j % tile_columns, j / tile_columns)));
    }
  }
  const TensorLayout vector(24, 2), tile(4, 1);
  RC_ASSERT(zipped_divide(vector, tile) == logical_divide(vector, tile));
}

RC_GTEST_PROP(LogicalProduct, RepeatsTheTileWithoutOverlap, ()) {
  const TensorLayout a = *nesting_layout(true, 24), b = *nesting_layout(true, 24);
  const TensorLayout repetitions = complement(a, a.size() * b.cosize());
  try {
    const TensorLayout product = logical_product(a, b);
    RC_ASSERT(product.mode(0) == a);
    RC_ASSERT(refines(product.mode(1).shape(), b.shape()));
    for (std::int64_t j = 0; j < b.size(); ++j) {
      for (std::int64_t i = 0; i < a.size(); ++i) {
        RC_ASSERT(product(i, j) == a(i) + repetitions.extended(b(j)));
      }
    }
    RC_ASSERT(is_injective(product) == std::optional(true));
  } catch (const Error&) {
    RC_ASSERT(!is_a_layout_over(composed_values(repetitions, b), b));
  }
}

RC_GTEST_PROP(RightInverse, ComesBackToTheOffset, ()) {
  const TensorLayout layout = *any_layout();
  const TensorLayout inverse = right_inverse(layout);
  for (std::int64_t i = 0; i < inverse.size(); ++i) RC_ASSERT(layout(inverse(i)) == i);
}

RC_GTEST_PROP(RightInverse, OfABijectionIsItsInverse, ()) {
  const TensorLayout layout = *nesting_layout(false);
  const TensorLayout inverse = right_inverse(layout);
  RC_ASSERT(inverse.size() == layout.size());
  RC_ASSERT(offsets(left_inverse(layout)) == offsets(inverse));
  RC_ASSERT(offsets(right_inverse(inverse)) == offsets(layout));
}

RC_GTEST_PROP(LeftInverse, ComesBackToTheCoordinate, ()) {
  const TensorLayout layout = *nesting_layout(true);
  const TensorLayout inverse = left_inverse(layout);
  RC_ASSERT(inverse.size() >= layout.cosize());
  for (std::int64_t i = 0; i < layout.size(); ++i) RC_ASSERT(inverse(layout(i)) == i);
}

TEST(Algebra, OverflowIsAnError) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 62;
  EXPECT_THROW(composition(TensorLayout(int_tuple(2, 2), int_tuple(1, kLarge)), TensorLayout(8, 2)),
               Error);
  EXPECT_THROW(complement(TensorLayout(3, kLarge - 1)), Error);
  EXPECT_THROW(logical_product(TensorLayout(4, 1), TensorLayout(2, kLarge)), Error);
  // leaves whose digits add up to more than 63 bits
  EXPECT_THROW(composition(TensorLayout(int_tuple(kLarge - 1, 2), int_tuple(1, kLarge)),
                           TensorLayout(int_tuple(2, 2), int_tuple(kLarge - 2, kLarge - 2))),
               Error);
}

}  // namespace
}  // namespace switchyard
