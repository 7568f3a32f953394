#include "workload/tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "switchyard/error.h"

namespace switchyard {
namespace {

using Fill = void (*)(Context&, MatrixView, std::uint64_t, std::uint64_t, float);

class Tensors : public testing::TestWithParam<Fill> {
 protected:
  template <class T>
  std::vector<T> filled(int threads, std::int64_t rows, std::int64_t cols,
                        std::uint64_t stream = 1) {
    Context context({.threads = threads, .isa = {}});
    std::vector<T> out(static_cast<std::size_t>(rows * cols));
    GetParam()(context, matrix(out.data(), rows, cols), 17, stream, 0.5f);
    return out;
  }
};

TEST_P(Tensors, HasTheMomentsAsked) {
  const auto x = filled<float>(2, 100, 1000);
  double sum = 0, squares = 0;
  for (const float v : x) {
    sum += v;
    squares += double{v} * v;
  }
  const auto count = static_cast<double>(x.size());
  EXPECT_NEAR(sum / count, 0.0, 0.01);
  EXPECT_NEAR(squares / count, 0.25, 0.005);
}

TEST_P(Tensors, ThreadsDoNotChangeBits) {
  const auto one = filled<float>(1, 37, 1237);
  EXPECT_EQ(one, filled<float>(3, 37, 1237));
  EXPECT_EQ(one, filled<float>(8, 37, 1237));
  EXPECT_NE(one, filled<float>(1, 37, 1237, 2)) << "another stream";
}

TEST_P(Tensors, NarrowTypesHoldTheSameValuesRounded) {
  const auto wide = filled<float>(2, 5, 333);
  const auto brain = filled<bf16>(2, 5, 333);
  const auto half = filled<f16>(2, 5, 333);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    EXPECT_EQ(brain[i].bits, from_float<bf16>(wide[i]).bits);
    EXPECT_EQ(half[i].bits, from_float<f16>(wide[i]).bits);
  }
}

TEST_P(Tensors, AStrideChangesPlacesNotValuesAndGapsAreLeftAlone) {
  constexpr std::int64_t kRows = 7, kCols = 13, kStride = 17;
  const auto dense = filled<float>(1, kRows, kCols);
  Context context({.threads = 2, .isa = {}});
  std::vector<float> strided(kRows * kStride, -7.0f);
  MatrixView view = matrix(strided.data(), kRows, kCols);
  view.row_stride = kStride;
  GetParam()(context, view, 17, 1, 0.5f);
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t c = 0; c < kStride; ++c) {
      EXPECT_EQ(strided[r * kStride + c], c < kCols ? dense[r * kCols + c] : -7.0f);
    }
  }
}

TEST_P(Tensors, EmptyIsFineAndNonsenseIsRefused) {
  Context context({.threads = 1, .isa = {}});
  GetParam()(context, matrix(static_cast<float*>(nullptr), 0, 5), 17, 1, 1.0f);
  GetParam()(context, matrix(static_cast<float*>(nullptr), 5, 0), 17, 1, 1.0f);
  EXPECT_THROW(GetParam()(context, matrix(static_cast<float*>(nullptr), 2, 5), 17, 1, 1.0f), Error);
  float x = 0;
  EXPECT_THROW(GetParam()(context, matrix(&x, 1, 1), 17, 1, std::numeric_limits<float>::infinity()),
               Error);
}

INSTANTIATE_TEST_SUITE_P(Uniform, Tensors, testing::Values(&fill_uniform));
INSTANTIATE_TEST_SUITE_P(Normal, Tensors, testing::Values(&fill_normal));

TEST(Tensors, UniformStaysWithinItsBounds) {
  Context context({.threads = 1, .isa = {}});
  std::vector<float> x(100000);
  fill_uniform(context, matrix(x.data(), 1, 100000), 3, 1, 2.0f);
  for (const float v : x) ASSERT_LE(std::abs(v), 2.0f * std::sqrt(3.0f));
}

}  // namespace
}  // namespace switchyard
