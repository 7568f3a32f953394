#include "bench/grid.h"

#include <gtest/gtest.h>

#include "switchyard/error.h"

namespace switchyard {
namespace {

Grid layer_grid() {
  Grid grid;
  grid.base.bench = "layer";
  return grid;
}

TEST(Grid, OfNothingIsTheBase) {
  const auto groups = expand(layer_grid());
  ASSERT_EQ(groups.size(), 1u);
  ASSERT_EQ(groups[0].size(), 1u);
  EXPECT_EQ(groups[0][0].impl, "grouped");
  EXPECT_EQ(groups[0][0].tokens, Cell{}.tokens);
}

TEST(Grid, GroupsCellsThatDifferInImplementationOnly) {
  Grid grid = layer_grid();
  grid.tokens = {1, 16};
  grid.impl = {"loop", "grouped"};
  grid.strategy = {"topk_softmax", "top1"};
  const auto groups = expand(grid);
  ASSERT_EQ(groups.size(), 4u);
  for (const auto& group : groups) {
    ASSERT_EQ(group.size(), 2u);
    EXPECT_EQ(group[0].impl, "loop");
    EXPECT_EQ(group[1].impl, "grouped");
    EXPECT_EQ(group[0].tokens, group[1].tokens);
    EXPECT_EQ(group[0].strategy, group[1].strategy);
  }
  EXPECT_EQ(groups[0][0].tokens, 1);
  EXPECT_EQ(groups[1][0].tokens, 16);
  EXPECT_EQ(groups[1][0].strategy, "topk_softmax");
  EXPECT_EQ(groups[2][0].strategy, "top1");
}

TEST(Grid, ConfigSetsTheShapeAndAxesWin) {
  Grid grid = layer_grid();
  grid.config = {"olmoe", "debug"};
  grid.top_k = {2};
  const auto groups = expand(grid);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0][0].config, "olmoe");
  EXPECT_EQ(groups[0][0].experts, 64);
  EXPECT_EQ(groups[0][0].hidden, 2048);
  EXPECT_EQ(groups[0][0].ffn, 1024);
  EXPECT_EQ(groups[0][0].top_k, 2);
  EXPECT_EQ(groups[0][0].router.top_k, 2);
  EXPECT_EQ(groups[1][0].experts, 4);
}

TEST(Grid, WeightsFollowTheActivationsUnlessTheyHaveAnAxis) {
  Grid grid = layer_grid();
  grid.dtype = {DType::f32, DType::f16};
  EXPECT_EQ(expand(grid)[1][0].weights.dtype, DType::f16);
  grid.weights = {{DType::bf16, {}}};
  EXPECT_EQ(expand(grid)[1][0].weights.dtype, DType::bf16);
}

std::string refusal(const Grid& grid) {
  try {
    expand(grid);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(Grid, RefusesWhatCannotBeMeasured) {
  Grid grid = layer_grid();
  grid.base.bench = "layr";
  EXPECT_NE(refusal(grid).find("did you mean layer"), std::string::npos);

  grid = layer_grid();
  grid.impl = {"groupd"};
  EXPECT_NE(refusal(grid).find("did you mean grouped"), std::string::npos);

  grid = layer_grid();
  grid.strategy = {"topk_sofmax"};
  EXPECT_NE(refusal(grid).find("did you mean topk_softmax"), std::string::npos);

  grid = layer_grid();
  grid.config = {"olmo"};
  EXPECT_NE(refusal(grid).find("did you mean olmoe"), std::string::npos);

  grid = layer_grid();
  grid.experts = {4};
  grid.top_k = {2, 8};
  EXPECT_NE(refusal(grid).find("--top-k 8 with --experts 4"), std::string::npos);

  grid = layer_grid();
  grid.tokens.assign(2000, 1);
  grid.threads.assign(2000, 1);
  EXPECT_NE(refusal(grid).find("narrow it"), std::string::npos);
}

TEST(Grid, ZeroPointsAreOfInt4Only) {
  Grid grid = layer_grid();
  grid.base.quant.zero_points = true;
  grid.weights = {weight_format_from_name("int8"), weight_format_from_name("int4")};
  const auto groups = expand(grid);
  EXPECT_FALSE(groups.front()[0].quant.zero_points);
  EXPECT_TRUE(groups.back()[0].quant.zero_points);
}

TEST(Grid, TheImplementationSinkhornIsThatStrategyOnce) {
  Grid grid;
  grid.base.bench = "router";
  grid.strategy = {"top1", "softk"};
  grid.impl = {"fused_select", "sinkhorn"};
  const auto groups = expand(grid);
  ASSERT_EQ(groups.size(), 2u);
  ASSERT_EQ(groups[0].size(), 2u);
  EXPECT_EQ(groups[0][0].strategy, "top1");
  EXPECT_EQ(groups[0][1].strategy, "sinkhorn");
  ASSERT_EQ(groups[1].size(), 1u);
  EXPECT_EQ(groups[1][0].strategy, "softk");
}

}  // namespace
}  // namespace switchyard
