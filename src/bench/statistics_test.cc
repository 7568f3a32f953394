#include "bench/statistics.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "switchyard/error.h"

namespace switchyard {
namespace {

const std::vector<double> kSamples = {3.1, 2.9, 3.0, 3.4, 2.8, 3.3, 9.7, 3.05, 2.95, 3.2, 3.15};

// import numpy as np  # 2.4.6
// np.median(x), np.mean(x), np.std(x), np.percentile(x, 5), np.percentile(x, 95),
// np.percentile(x, 99)
TEST(Statistics, SummaryIsNumPys) {
  const Summary s = summarise(kSamples, 1);
  EXPECT_DOUBLE_EQ(s.median, 3.1);
  EXPECT_DOUBLE_EQ(s.mean, 3.686363636363637);
  EXPECT_DOUBLE_EQ(s.std, 1.908961034543387);
  EXPECT_DOUBLE_EQ(s.min, 2.8);
  EXPECT_DOUBLE_EQ(s.p05, 2.85);
  EXPECT_DOUBLE_EQ(s.p95, 6.55);
  EXPECT_DOUBLE_EQ(s.p99, 9.07);
}

TEST(Statistics, PercentileEnds) {
  const std::vector<double> one = {7}, two = {1, 3};
  for (const double p : {0.0, 50.0, 100.0}) EXPECT_EQ(percentile(one, p), 7);
  EXPECT_EQ(percentile(two, 0), 1);
  EXPECT_EQ(percentile(two, 50), 2);
  EXPECT_EQ(percentile(two, 100), 3);
}

// np.percentile(np.median(rng.choice(x, (200000, 11)), axis=1), [2.5, 97.5]) -> [2.95, 3.3]
TEST(Statistics, BootstrapAgreesWithNumPysOnFewSamples) {
  const Interval interval = bootstrap_median(kSamples, 17);
  EXPECT_DOUBLE_EQ(interval.low, 2.95);
  EXPECT_DOUBLE_EQ(interval.high, 3.3);
}

// x = np.exp(np.arange(1, 41) / 10); 200 repetitions of
// np.percentile(np.median(rng.choice(x, (1000, 40)), axis=1), [2.5, 97.5])
// stay within [4.06, 4.48] and [12.83, 14.88].
TEST(Statistics, BootstrapAgreesWithNumPysOnSkewedSamples) {
  std::vector<double> x;
  for (int i = 1; i <= 40; ++i) x.push_back(std::exp(i / 10.0));
  for (const std::uint64_t seed : {1, 2, 3}) {
    const Interval interval = bootstrap_median(x, seed);
    EXPECT_NEAR(interval.low, 4.27, 0.3);
    EXPECT_NEAR(interval.high, 13.9, 1.2);
  }
}

TEST(Statistics, BootstrapIsSeeded) {
  std::vector<double> x;
  for (int i = 0; i < 101; ++i) x.push_back(std::fmod(i * 0.618034, 1.0));
  const Interval a = bootstrap_median(x, 5), b = bootstrap_median(x, 5), c = bootstrap_median(x, 6);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_TRUE(a.low != c.low || a.high != c.high);
}

// scipy.stats.binom.cdf(39, 100, 0.5) = 0.0176: ranks 40 and 61 of 100 hold 96.5%.
TEST(Statistics, OrderIntervalOfAHundred) {
  std::vector<double> x(100);
  for (int i = 0; i < 100; ++i) x[i] = i + 1;
  EXPECT_EQ(order_median_interval(x).low, 40);
  EXPECT_EQ(order_median_interval(x).high, 61);
}

TEST(Statistics, IntervalsHoldTheMedian) {
  const bool held = rc::check([] {
    const auto values = *rc::gen::nonEmpty(rc::gen::container<std::vector<double>>(
        rc::gen::map(rc::gen::inRange(-1000, 1000), [](int i) { return i / 8.0; })));
    const Summary s = summarise(values, 3);
    std::vector<double> ascending = values;
    std::sort(ascending.begin(), ascending.end());
    const Interval order = order_median_interval(ascending);
    RC_ASSERT(s.ci95.low <= s.median && s.median <= s.ci95.high);
    RC_ASSERT(order.low <= s.median && s.median <= order.high);
    RC_ASSERT(s.min <= s.p05 && s.p05 <= s.median && s.median <= s.p95 && s.p95 <= s.p99);
  });
  EXPECT_TRUE(held);
}

// scipy.stats.mannwhitneyu(a, b, method='asymptotic')  # SciPy 1.17.1
TEST(Statistics, MannWhitneyIsSciPys) {
  const std::vector<double> a = {1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 2.4};
  const std::vector<double> b = {1.35, 1.55, 1.65, 1.75, 1.85, 1.95, 2.05, 2.15, 2.25, 2.5};
  EXPECT_DOUBLE_EQ(mann_whitney(a, b).u, 20);
  EXPECT_NEAR(mann_whitney(a, b).p, 0.04545529484905846, 1e-12);
  EXPECT_DOUBLE_EQ(mann_whitney(b, a).u, 70);
  EXPECT_NEAR(mann_whitney(b, a).p, 0.04545529484905846, 1e-12);
}

TEST(Statistics, MannWhitneyWithTiesIsSciPys) {
  const std::vector<double> a = {1, 2, 2, 3, 3, 3, 4, 5}, b = {2, 3, 4, 4, 5, 5, 6, 6, 6};
  EXPECT_DOUBLE_EQ(mann_whitney(a, b).u, 13.5);
  EXPECT_NEAR(mann_whitney(a, b).p, 0.03143637053596466, 1e-12);
}

TEST(Statistics, MannWhitneyEdges) {
  const std::vector<double> none, same = {2, 2, 2, 2};
  EXPECT_EQ(mann_whitney(none, same).p, 1);
  EXPECT_EQ(mann_whitney(same, same).p, 1);
}

TEST(Statistics, SamplesThatAreNoNumbersAreRefused) {
  EXPECT_THROW(summarise({}, 1), Error);
  const std::vector<double> bad = {1, std::numeric_limits<double>::quiet_NaN()};
  EXPECT_THROW(summarise(bad, 1), Error);
}

TEST(Statistics, SamplesFillARecord) {
  Record record = Record::object();
  add_samples(record, {}, 1);
  EXPECT_TRUE(record.empty());
  add_samples(record, kSamples, 1);
  EXPECT_EQ(record.size(), 10u);
  EXPECT_EQ(record["samples_ms"].size(), kSamples.size());
  EXPECT_EQ(in_schema_order(record), record);
}

}  // namespace
}  // namespace switchyard
