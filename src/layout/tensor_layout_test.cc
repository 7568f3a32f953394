#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <set>

#include "layout/layout_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

template <class Use>
void expect_error(Use use, const std::vector<std::string>& pieces) {
  try {
    use();
    FAIL() << "no error, expected: " << pieces[0];
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    for (const std::string& piece : pieces) {
      EXPECT_NE(std::string(error.what()).find(piece), std::string::npos) << error.what();
    }
  }
}

TEST(IntTuple, RankDepthAndText) {
  const IntTuple t = int_tuple(4, int_tuple(2, int_tuple(3)), 5);
  EXPECT_EQ(t.rank(), 3);
  EXPECT_EQ(t.depth(), 3);
  EXPECT_EQ(to_string(t), "(4,(2,(3)),5)");
  EXPECT_EQ(flatten(t), (std::vector<std::int64_t>{4, 2, 3, 5}));
  EXPECT_EQ(num_coordinates(t), 120);
  EXPECT_EQ(IntTuple(7).depth(), 0);
  EXPECT_EQ(IntTuple(7).rank(), 1);
  EXPECT_FALSE(IntTuple(7) == int_tuple(7));
  expect_error([&] { t.value(); }, {"(4,(2,(3)),5)", "integer"});
  expect_error([] { IntTuple(std::vector<IntTuple>{}); }, {"empty"});
}

TEST(TensorLayout, StridesByDefault) {
  EXPECT_EQ(to_string(TensorLayout(int_tuple(2, int_tuple(2, 2)))), "(2,(2,2)):(1,(2,4))");
  EXPECT_EQ(to_string(TensorLayout::row_major(int_tuple(2, 4))), "(2,4):(4,1)");
  EXPECT_EQ(to_string(TensorLayout::row_major(int_tuple(2, int_tuple(2, 2)))),
            "(2,(2,2)):(4,(2,1))");
  EXPECT_EQ(to_string(TensorLayout()), "1:0");
}

// CUTLASS, "CuTe Layouts": the tables of (3,(2,3)) and of (2,(2,2)):(4,(2,1)).
TEST(TensorLayout, CoordinatesOfTheCuteDocumentation) {
  const IntTuple shape = int_tuple(3, int_tuple(2, 3)), stride = int_tuple(3, int_tuple(12, 1));
  const IntTuple natural = int_tuple(1, int_tuple(1, 2));
  EXPECT_EQ(idx2crd(16, shape), natural);
  EXPECT_EQ(crd2idx(16, shape, stride), 17);
  EXPECT_EQ(crd2idx(int_tuple(1, 5), shape, stride), 17);
  EXPECT_EQ(crd2idx(natural, shape, stride), 17);
  EXPECT_EQ(crd2idx(natural, shape), 16);
  const TensorLayout h(int_tuple(2, int_tuple(2, 2)), int_tuple(4, int_tuple(2, 1)));
  EXPECT_EQ(offsets(h), (std::vector<std::int64_t>{0, 4, 2, 6, 1, 5, 3, 7}));
  EXPECT_EQ(h(1, 2), 5);
  EXPECT_EQ(h(1, int_tuple(0, 1)), 5);
}

RC_GTEST_PROP(TensorLayout, AllCoordinatesOfAnElementAgree, ()) {
  const TensorLayout layout = *any_layout();
  for (std::int64_t i = 0; i < layout.size(); ++i) {
    const IntTuple natural = idx2crd(i, layout.shape());
    RC_ASSERT(crd2idx(natural, layout.shape()) == i);
    RC_ASSERT(layout(natural) == layout(i));
    RC_ASSERT(layout.extended(i) == layout(i));
    if (layout.rank() == 2) {
      const std::int64_t rows = layout.mode(0).size();
      RC_ASSERT(layout(i % rows, i / rows) == layout(i));
    }
  }
  const auto all = offsets(layout);
  RC_ASSERT(layout.cosize() == *std::max_element(all.begin(), all.end()) + 1);
}

TEST(TensorLayout, GoesOnBeyondItsSizeInTheLastLeaf) {
  const TensorLayout layout(int_tuple(4, 3), int_tuple(3, 1));
  EXPECT_EQ(layout.extended(11), 11);
  EXPECT_EQ(layout.extended(12), 3);
  EXPECT_EQ(layout.extended(23), 9 + 5);
  const TensorLayout capped(int_tuple(4, 3, 1), int_tuple(3, 1, 0));
  EXPECT_EQ(capped.extended(23), 11);
  expect_error([&] { layout.extended(-1); }, {"-1", "negative"});
}

TEST(TensorLayout, RefusesWhatItIsNotDefinedFor) {
  const TensorLayout layout(int_tuple(4, int_tuple(2, 3)));
  expect_error([&] { layout(24); }, {"24", "(4,(2,3))", "0 to 23"});
  expect_error([&] { layout(-1); }, {"-1"});
  expect_error([&] { layout(0, 6); }, {"6", "(2,3)", "0 to 5"});
  expect_error([&] { layout(0, int_tuple(0, 3)); }, {"3", "0 to 2"});
  expect_error([&] { layout(0, 1, 2); }, {"(0,1,2)", "tuple of 2"});
  expect_error([&] { layout(int_tuple(0, 1), 0); }, {"(0,1)", "does not fit 4"});
  expect_error([&] { layout.mode(2); }, {"no mode 2", "0 to 1"});
  expect_error([] { TensorLayout(int_tuple(4, 2), int_tuple(1, int_tuple(4))); }, {"nesting"});
  expect_error([] { TensorLayout(int_tuple(4, 2), 1); }, {"nesting"});
  expect_error([] { TensorLayout(int_tuple(4, 0)); }, {"size of 0", "at least 1"});
  expect_error([] { TensorLayout(4, -1); }, {"stride of -1", "at least 0"});
}

TEST(TensorLayout, OverflowIsAnError) {
  expect_error([] { TensorLayout(int_tuple(kMax, 2)); }, {"size", "63 bits"});
  expect_error([] { TensorLayout(3, kMax / 2 + 1); }, {"cosize", "63 bits"});
  expect_error([] { TensorLayout(int_tuple(2, 2), int_tuple(kMax - 1, 2)); }, {"cosize"});
  const TensorLayout large(kMax, 1);
  EXPECT_EQ(large(kMax - 1), kMax - 1);
  EXPECT_EQ(TensorLayout(2, kMax - 1).cosize(), kMax);
  expect_error([] { TensorLayout(2, kMax - 1).extended(kMax); }, {"63 bits"});
  EXPECT_EQ(TensorLayout(int_tuple(1, 1), int_tuple(kMax, kMax)).cosize(), 1);
  // 3 * 2^31 rows of 4096: more than 2^31 elements is everyday
  EXPECT_EQ(TensorLayout::row_major(int_tuple(std::int64_t{3} << 31, 4096))(
                (std::int64_t{3} << 31) - 1, 4095),
            (std::int64_t{3} << 43) - 1);
}

RC_GTEST_PROP(TensorLayout, InjectiveAsCounted, ()) {
  const TensorLayout layout = *any_layout();
  const auto all = offsets(layout);
  const std::set<std::int64_t> distinct(all.begin(), all.end());
  const bool injective = distinct.size() == all.size();
  RC_ASSERT(is_injective(layout) == std::optional(injective));
  const bool onto = static_cast<std::int64_t>(all.size()) == layout.cosize();
  RC_ASSERT(is_bijective(layout) == std::optional(injective && onto));
}

TEST(TensorLayout, InjectiveWhereCountingWouldTakeForever) {
  EXPECT_EQ(is_injective(TensorLayout(kMax, 1)), true);
  EXPECT_EQ(is_bijective(TensorLayout(int_tuple(std::int64_t{1} << 31, 1 << 30))), true);
  EXPECT_EQ(is_injective(TensorLayout(int_tuple(1 << 30, 1 << 30), int_tuple(2, 3))), false);
  EXPECT_EQ(is_bijective(TensorLayout(int_tuple(2, 2), int_tuple(1, 3))), false);
  // a subset-sum problem: whatever the answer, it comes soon
  std::vector<IntTuple> sizes(40, 2), strides;
  for (std::int64_t i = 0; i < 40; ++i)
    strides.emplace_back((std::int64_t{1} << 50) + i * i * i * 977);
  is_injective(TensorLayout(IntTuple(sizes), IntTuple(strides)));
}

}  // namespace
}  // namespace switchyard
