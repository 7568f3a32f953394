#include "layer/layer_reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "switchyard/error.h"

namespace switchyard {
namespace {

// T=3, H=2, E=2, F=1; token 2's second assignment is dropped.
struct Tiny {
  std::vector<float> x = {1, 2, -1, 1, 0.5f, 0};
  std::vector<float> gate = {1, 0, 0, 1};  // expert 0 gates on x0, expert 1 on x1
  std::vector<float> up = {2, 0, 1, 1};
  std::vector<float> down = {1, 3, -1, 1};
  Routing routing{3, 2, {0, 1, 3, 5}, {0, 0, 1, 0, 1}, {1, 0.25f, 0.75f, 0.5f, 0.5f}};
  DispatchPlan plan;

  Tiny() {
    plan.num_tokens = 3;
    plan.num_experts = 2;
    plan.expert_begin = {0, 3, 4};
    plan.expert_rows = {3, 1};
    plan.token_of_row = {0, 1, 2, 1};
    plan.row_of_assignment = {0, 1, 3, 2, -1};
    plan.weight_of_assignment = {1, 0.25f, 0.75f, 0.5f, 0};
    plan.token_begin = routing.token_begin;
  }

  ExpertWeights experts(Activation activation = Activation::relu) const {
    return {matrices(gate.data(), 2, 1, 2), matrices(up.data(), 2, 1, 2),
            matrices(down.data(), 2, 2, 1), activation};
  }
  LayerWeights layer() const {
    LayerWeights weights;
    weights.experts = experts();
    return weights;
  }
  ConstMatrixView tokens() const { return matrix(x.data(), 3, 2); }
};

TEST(LayerReference, LogitsByHand) {
  const Tiny tiny;
  const std::vector<float> router = {1, 1, 2, -1};
  EXPECT_EQ(reference_logits(tiny.tokens(), matrix(router.data(), 2, 2)),
            (std::vector<double>{3, 0, 0, -3, 0.5, 1}));
  const std::vector<std::int64_t> last = {2};
  EXPECT_EQ(reference_logits(tiny.tokens(), matrix(router.data(), 2, 2), last),
            (std::vector<double>{0.5, 1}));
}

TEST(LayerReference, GatedExpertByHand) {
  const Tiny tiny;
  const std::vector<double> x = {1, 2};
  // relu(1) * 2 = 2 and relu(2) * 3 = 6 before the down projections [1 3] and [-1 1].
  EXPECT_EQ(reference_expert(tiny.experts(), 0, x), (std::vector<double>{2, 6}));
  EXPECT_EQ(reference_expert(tiny.experts(), 1, x), (std::vector<double>{-6, 6}));
}

TEST(LayerReference, ActivationsMatchTheirFormulas) {
  const Tiny tiny;
  const std::vector<double> x = {0.5, 0};
  const auto hidden = [&](Activation activation) {
    ExpertWeights plain = tiny.experts(activation);
    plain.gate = {};
    return reference_expert(plain, 0, x)[0];  // up gives 1, down [1]
  };
  EXPECT_DOUBLE_EQ(hidden(Activation::silu), 1 / (1 + std::exp(-1.0)));
  EXPECT_DOUBLE_EQ(hidden(Activation::gelu), 0.8413447460685429);
  EXPECT_DOUBLE_EQ(hidden(Activation::relu), 1);
}

TEST(LayerReference, LayerSumsKeptAssignments) {
  const Tiny tiny;
  const std::vector<double> out =
      reference_layer(tiny.tokens(), tiny.routing, tiny.plan, tiny.layer(), {});
  // Token 1: expert 0 has relu(-1) = 0; expert 1 has relu(1) * 0. token 2: 0.5 * (0.5 * 1) * [1 3].
  EXPECT_EQ(out, (std::vector<double>{2, 6, 0, 0, 0.25, 0.75}));
}

TEST(LayerReference, SharedExpertIsScaledByItsGate) {
  const Tiny tiny;
  LayerWeights weights = tiny.layer();
  weights.shared = weights.experts;
  const std::vector<std::int64_t> first = {0};
  const auto row = [&] {
    return reference_layer(tiny.tokens(), tiny.routing, tiny.plan, weights, first);
  };
  EXPECT_EQ(row(), (std::vector<double>{4, 12}));
  const std::vector<float> gate = {0, 0};
  weights.shared_gate = matrix(gate.data(), 1, 2);
  EXPECT_EQ(row(), (std::vector<double>{3, 9}));
}

TEST(LayerReference, ReadsStridedHalfPrecision) {
  const std::vector<f16> x = {from_float<f16>(1), from_float<f16>(99), from_float<f16>(-2),
                              from_float<f16>(99)};
  const std::vector<bf16> router = {from_float<bf16>(3)};
  ConstMatrixView view = matrix(x.data(), 2, 1);
  view.row_stride = 2;
  EXPECT_EQ(reference_logits(view, matrix(router.data(), 1, 1)), (std::vector<double>{3, -6}));
}

TEST(LayerReference, CoveringTokensTouchEveryExpertWithRows) {
  const Tiny tiny;
  // Only token 1 reaches expert 1: token 2's assignment to it was dropped.
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto tokens = covering_tokens(tiny.routing, tiny.plan, 1, seed);
    EXPECT_NE(std::find(tokens.begin(), tokens.end(), 1), tokens.end());
    EXPECT_LE(tokens.size(), 2u);
    EXPECT_TRUE(std::is_sorted(tokens.begin(), tokens.end()));
  }
  EXPECT_EQ(covering_tokens(tiny.routing, tiny.plan, 2, 5).size(), 2u);
  EXPECT_EQ(covering_tokens(tiny.routing, tiny.plan, 9, 5), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(covering_tokens(tiny.routing, tiny.plan, 1, 5),
            covering_tokens(tiny.routing, tiny.plan, 1, 5));
  EXPECT_TRUE(covering_tokens(Routing{0, 2, {0}, {}, {}}, DispatchPlan{}, 4, 1).empty());
}

TEST(LayerReference, RelativeErrorOfNorms) {
  const std::vector<float> out = {3, 4, 0, 0};
  const auto error = [&](std::vector<double> ref, std::vector<std::int64_t> rows) {
    return relative_error(matrix(out.data(), 2, 2), ref, rows);
  };
  EXPECT_EQ(error({3, 4, 0, 0}, {}), 0);
  EXPECT_DOUBLE_EQ(error({3, 5}, {0}), 1 / std::sqrt(34.0));
  EXPECT_EQ(error({0, 0}, {1}), 0);
  EXPECT_EQ(error({0, 0}, {0}), std::numeric_limits<double>::infinity());
  EXPECT_THROW(error({3, 4}, {}), Error);
}

TEST(LayerReference, RelativeErrorOfWhatIsNotFiniteIsInfinite) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<double> ref = {1, 1};
  for (const float bad : {kNan, kInf, -kInf}) {
    const std::vector<float> out = {1, bad};
    EXPECT_EQ(relative_error(matrix(out.data(), 1, 2), ref, {}),
              std::numeric_limits<double>::infinity());
  }
}

TEST(LayerReference, ToleranceFollowsTheCoarserDtypeAndTheDepth) {
  EXPECT_LT(layer_tolerance(DType::f32, DType::f32, 2048, 1024), 2e-5);
  EXPECT_NEAR(layer_tolerance(DType::bf16, DType::bf16, 2048, 1024), 2 * 0x1p-7, 2e-5);
  EXPECT_EQ(layer_tolerance(DType::f32, DType::bf16, 8, 8),
            layer_tolerance(DType::bf16, DType::f32, 8, 8));
  EXPECT_LT(layer_tolerance(DType::f16, DType::f16, 8, 8),
            layer_tolerance(DType::bf16, DType::bf16, 8, 8));
  EXPECT_LT(layer_tolerance(DType::f32, DType::f32, 8, 8),
            layer_tolerance(DType::f32, DType::f32, 800, 800));
}

}  // namespace
}  // namespace switchyard
