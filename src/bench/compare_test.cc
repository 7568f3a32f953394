#include "bench/compare.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "switchyard/error.h"

namespace switchyard {
namespace {

/// `n` times around `ms`, with relative noise of standard deviation `noise`.
std::vector<double> times(double ms, double noise, int n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<> normal(0, noise);
  std::vector<double> out;
  for (int i = 0; i < n; ++i) out.push_back(ms * (1 + std::abs(normal(random))));
  return out;
}

Record record(int tokens, std::vector<double> samples, std::string_view impl = "grouped") {
  return {
      {"schema", "switchyard/1"}, {"bench", "layer"}, {"impl", impl},          {"threads", 2},
      {"tokens", tokens},         {"ok", true},       {"samples_ms", samples}, {"cpu", "a machine"},
      {"git_sha", "aaaa"}};
}

Record failed(int tokens) {
  return {{"schema", "switchyard/1"}, {"bench", "layer"}, {"impl", "grouped"},  {"threads", 2},
          {"tokens", tokens},         {"ok", false},      {"error", "it broke"}};
}

Comparison compared(const std::vector<Record>& a, const std::vector<Record>& b,
                    const std::vector<std::string>& across = {}) {
  return compare(a, b, 0.05, across);
}

Verdict verdict(std::vector<double> a, std::vector<double> b) {
  const Comparison c = compared({record(1, std::move(a))}, {record(1, std::move(b))});
  EXPECT_EQ(c.cells.size(), 1u);
  return c.cells.at(0).verdict;
}

TEST(Compare, AShiftIsDetected) {
  EXPECT_EQ(verdict(times(10, 0.02, 40, 1), times(12, 0.02, 40, 2)), Verdict::slower);
  EXPECT_EQ(verdict(times(12, 0.02, 40, 1), times(10, 0.02, 40, 2)), Verdict::faster);
  EXPECT_EQ(verdict(times(10, 0.3, 400, 1), times(15, 0.3, 400, 2)), Verdict::slower);
}

TEST(Compare, NoShiftIsNotFlagged) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(verdict(times(10, 0.02, 40, 2 * seed), times(10, 0.02, 40, 2 * seed + 1)),
              Verdict::same);
    const Verdict noisy = verdict(times(10, 0.5, 20, 2 * seed), times(10, 0.5, 20, 2 * seed + 1));
    EXPECT_TRUE(noisy == Verdict::unclear || noisy == Verdict::same) << seed;
  }
}

TEST(Compare, AShiftInNoiseIsUnclear) {
  EXPECT_EQ(verdict(times(10, 0.5, 10, 1), times(10.8, 0.5, 10, 2)), Verdict::unclear);
}

TEST(Compare, AShiftNearTheThresholdIsUnclear) {
  EXPECT_EQ(verdict(times(10, 0.05, 30, 1), times(10.5, 0.05, 30, 2)), Verdict::unclear);
}

TEST(Compare, TiesAreHandled) {
  EXPECT_EQ(verdict(std::vector<double>(20, 3.0), std::vector<double>(20, 3.0)), Verdict::same);
  EXPECT_EQ(verdict(std::vector<double>(20, 3.0), std::vector<double>(20, 6.0)), Verdict::slower);
  EXPECT_EQ(verdict(std::vector<double>(20, 3.0), std::vector<double>(20, 1.0)), Verdict::faster);
}

TEST(Compare, FewSamplesProveNothing) {
  EXPECT_EQ(verdict({1, 1, 1, 1, 1}, {9, 9, 9, 9, 9}), Verdict::unclear);
  EXPECT_EQ(verdict({1}, {1}), Verdict::unclear);
}

TEST(Compare, VerdictsFollowTheInterval) {
  EXPECT_EQ(verdict_of({0.96, 1.04}, 0.001, 0.05), Verdict::same);
  EXPECT_EQ(verdict_of({1.01, 1.08}, 0.001, 0.05), Verdict::unclear);
  EXPECT_EQ(verdict_of({1.06, 1.08}, 0.001, 0.05), Verdict::slower);
  EXPECT_EQ(verdict_of({1.06, 1.08}, 0.2, 0.05), Verdict::unclear);
  EXPECT_EQ(verdict_of({0.90, 0.94}, 0.001, 0.05), Verdict::faster);
  EXPECT_EQ(verdict_of({0.5, 2}, 0.2, 0.05), Verdict::unclear);
  EXPECT_EQ(verdict_of({1.06, 1.08}, 0.001, 0.1), Verdict::same);
  EXPECT_EQ(verdict_of({1, 1}, 1, 0), Verdict::same);
}

TEST(Compare, TheRatioIsThatOfTheMedians) {
  const Comparison c =
      compared({record(1, {1, 2, 3, 4, 5, 6, 7})}, {record(1, {2, 4, 6, 8, 10, 12, 14})});
  EXPECT_EQ(c.cells[0].median_a, 4);
  EXPECT_EQ(c.cells[0].median_b, 8);
  EXPECT_EQ(c.cells[0].ratio, 2);
  EXPECT_LT(c.cells[0].interval.low, 2);
  EXPECT_GT(c.cells[0].interval.high, 2);
}

TEST(Compare, CellsAreMatchedByWhatTheyAre) {
  const std::vector<double> ms(8, 1.0);
  const Comparison c = compared({record(1, ms), record(2, ms), record(3, ms)},
                                {record(3, ms), record(1, ms), record(4, ms)});
  ASSERT_EQ(c.cells.size(), 2u);
  EXPECT_EQ(c.cells[0].identity["tokens"], 3);
  EXPECT_EQ(c.cells[1].identity["tokens"], 1);
  ASSERT_EQ(c.only_a.size(), 1u);
  EXPECT_EQ(c.only_a[0]["tokens"], 2);
  ASSERT_EQ(c.only_b.size(), 1u);
  EXPECT_EQ(c.only_b[0]["tokens"], 4);
  EXPECT_TRUE(c.environment.empty());
  EXPECT_FALSE(has_regression(c));
}

TEST(Compare, FailedCellsAreListed) {
  const std::vector<double> ms(8, 1.0);
  const Comparison c =
      compared({record(1, ms), failed(2), failed(3)}, {failed(1), record(2, ms), failed(3)});
  EXPECT_TRUE(c.cells.empty());
  ASSERT_EQ(c.failed.size(), 3u);
  EXPECT_EQ(c.failed[0].error_b, "it broke");
  EXPECT_TRUE(c.failed[0].is_regression);
  EXPECT_EQ(c.failed[1].error_a, "it broke");
  EXPECT_FALSE(c.failed[1].is_regression);
  EXPECT_FALSE(c.failed[2].is_regression);
  EXPECT_TRUE(has_regression(c));
}

TEST(Compare, ATimeOfZeroIsNoTime) {
  const Comparison c = compared({record(1, {0, 0, 0, 0, 0, 0})}, {record(1, {1, 1, 1, 1, 1, 1})});
  ASSERT_EQ(c.failed.size(), 1u);
  EXPECT_EQ(c.failed[0].error_a, "a sample of 0 ms");
}

TEST(Compare, SamplesOfOneCellArePooledAndAFailureBeforeThemForgotten) {
  const Comparison c = compared({failed(1), record(1, {1, 1, 1}), record(1, {3, 3, 3})},
                                {record(1, std::vector<double>(6, 2.0))});
  ASSERT_EQ(c.cells.size(), 1u);
  EXPECT_EQ(c.cells[0].num_a, 6u);
  EXPECT_EQ(c.cells[0].median_a, 2);
  EXPECT_EQ(c.pooled_a, 1u);
  EXPECT_EQ(c.pooled_b, 0u);
}

TEST(Compare, TheEnvironmentsDifferencesAreTold) {
  const std::vector<double> ms(8, 1.0);
  Record b = record(1, ms), other = record(2, ms);
  b["git_sha"] = "bbbb";
  other["cpu"] = "of no matched cell";
  const Comparison c = compared({record(1, ms)}, {b, other});
  ASSERT_EQ(c.environment.size(), 1u);
  EXPECT_EQ(c.environment[0].field, "git_sha");
  EXPECT_EQ(c.environment[0].a, std::vector<std::string>{"aaaa"});
  EXPECT_EQ(c.environment[0].b, std::vector<std::string>{"bbbb"});
}

TEST(Compare, ThreadsThatDifferAsAWholeAreADifferenceOfTheEnvironment) {
  const std::vector<double> ms(8, 1.0);
  Record b1 = record(1, ms), b2 = record(2, ms);
  b1["threads"] = b2["threads"] = 8;
  b1["config"] = "a name";
  const Comparison c = compared({record(1, ms), record(2, ms)}, {b1, b2});
  EXPECT_EQ(c.cells.size(), 2u);
  ASSERT_EQ(c.environment.size(), 2u);
  EXPECT_EQ(c.environment[0].field, "threads");
  EXPECT_EQ(c.environment[1].field, "config");
  b2["threads"] = 2;
  EXPECT_EQ(compared({record(1, ms), record(2, ms)}, {b1, b2}).cells.size(), 1u);
}

TEST(Compare, AcrossAFieldEachCellMeetsTheOneOfA) {
  const auto slow = times(2, 0.01, 20, 1), fast = times(1, 0.01, 20, 2);
  const Comparison c = compared(
      {record(1, slow, "loop")},
      {record(1, fast, "grouped"), record(1, slow, "loop"), record(1, slow, "padded")}, {"impl"});
  ASSERT_EQ(c.cells.size(), 3u);
  EXPECT_EQ(c.cells[0].verdict, Verdict::faster);
  EXPECT_EQ(c.cells[1].verdict, Verdict::same);
  EXPECT_EQ(c.environment.at(0).field, "impl");
  EXPECT_THROW(compared({record(1, slow, "loop"), record(1, fast, "padded")},
                        {record(1, fast, "grouped")}, {"impl"}),
               Error);
  EXPECT_THROW(compared({record(1, slow)}, {record(1, fast)}, {"median_ms"}), Error);
}

}  // namespace
}  // namespace switchyard
