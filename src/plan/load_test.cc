#include "switchyard/load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "plan/plan_reference.h"
#include "plan/random_routing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

TEST(LoadStats, OfABalancedLoad) {
  const std::vector<std::int64_t> rows = {5, 5, 5, 5};
  const LoadStats stats = load_stats(rows);
  EXPECT_DOUBLE_EQ(stats.cv, 0);
  EXPECT_DOUBLE_EQ(stats.max_over_mean, 1);
  EXPECT_DOUBLE_EQ(stats.max_vio, 0);
  EXPECT_DOUBLE_EQ(stats.entropy, 1);
  EXPECT_EQ(stats.experts_active, 4);
}

TEST(LoadStats, OfASkewedLoad) {
  const std::vector<std::int64_t> rows = {6, 2, 0, 0};  // mean 2, variance (16 + 0 + 4 + 4) / 4
  const LoadStats stats = load_stats(rows);
  EXPECT_DOUBLE_EQ(stats.cv, std::sqrt(6.0) / 2);
  EXPECT_DOUBLE_EQ(stats.max_over_mean, 3);
  EXPECT_DOUBLE_EQ(stats.max_vio, 2);
  EXPECT_NEAR(stats.entropy, -(0.75 * std::log(0.75) + 0.25 * std::log(0.25)) / std::log(4), 1e-15);
  EXPECT_EQ(stats.experts_active, 2);
}

TEST(LoadStats, OfNothingAndOfOneExpert) {
  for (const std::vector<std::int64_t>& rows : {std::vector<std::int64_t>{}, {0}, {0, 0}}) {
    const LoadStats stats = load_stats(rows);
    EXPECT_EQ(stats.cv + stats.max_over_mean + stats.max_vio + stats.entropy, 0);
    EXPECT_EQ(stats.experts_active, 0);
  }
  EXPECT_EQ(load_stats(std::vector<std::int64_t>{7}).entropy, 1);
  EXPECT_THROW(load_stats(std::vector<std::int64_t>{1, -1}), Error);
}

TEST(DropStats, CountsAssignmentsTokensAndPadding) {
  Routing routing;
  routing.num_tokens = 4;
  routing.num_experts = 2;
  routing.token_begin = {0, 2, 3, 4, 4};  // the last token has no experts: not dropped
  routing.expert = {0, 1, 0, 0};
  routing.weight = {1, 1, 1, 1};
  // C = ceil(0.5 * 4 / 2) = 1: tokens 1 and 2 are dropped.
  const DropStats stats = drop_stats(
      plan_reference(routing, {.layout = Layout::block, .capacity_factor = 0.5, .block_rows = 4}));
  EXPECT_DOUBLE_EQ(stats.drop_rate, 0.5);
  EXPECT_DOUBLE_EQ(stats.token_drop_rate, 0.5);
  EXPECT_EQ(stats.padding_rows, 6);
  EXPECT_EQ(drop_stats({}).drop_rate, 0);
}

TEST(GateEntropy, IsTheMeanOverTokens) {
  Routing routing;
  routing.num_tokens = 3;
  routing.num_experts = 4;
  routing.token_begin = {0, 2, 3, 3};
  routing.expert = {0, 1, 2};
  routing.weight = {0.5f, 0.5f, 1.0f};
  EXPECT_NEAR(gate_entropy(routing), std::log(2.0) / 3, 1e-15);
  routing.weight[2] = 0;
  EXPECT_NEAR(gate_entropy(routing), std::log(2.0) / 3, 1e-15);
  routing.expert[0] = 4;
  EXPECT_THROW(gate_entropy(routing), Error);
}

}  // namespace
}  // namespace switchyard
