#include "switchyard/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "routing/routing_cases.h"
#include "routing/routing_reference.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Routing route_row(std::string_view strategy, const std::vector<float>& row,
                  const RouterParams& params, const std::vector<float>& bias = {}) {
  Context context({.threads = 1, .isa = {}});
  Routing routing;
  route(context, StrategyRegistry::builtin().find(strategy),
        {matrix(row.data(), 1, static_cast<std::int64_t>(row.size())), bias, {}}, params, routing);
  return routing;
}

void expect_invalid(const std::function<void()>& call, const std::string& sentence) {
  try {
    call();
    ADD_FAILURE() << "no error: expected '" << sentence << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(error.what(), sentence);
  }
}

using Experts = std::vector<std::int32_t>;
using Weights = std::vector<float>;

TEST(Route, TiesGoToTheLowerExpert) {
  EXPECT_EQ(route_row("topk_softmax", {1, 3, -0.0f, 3, 0.0f}, {.top_k = 4}).expert,
            (Experts{1, 3, 0, 2}));
}

TEST(Route, PlusInfinitySharesTheProbability) {
  const Routing two = route_row("topk_softmax", {1, kInf, 2, kInf}, {.top_k = 3});
  EXPECT_EQ(two.expert, (Experts{1, 3, 2}));
  EXPECT_EQ(two.weight, (Weights{0.5f, 0.5f, 0}));
  EXPECT_EQ(route_row("top1", {1, kInf, kInf, kInf, kInf}, {}).weight, (Weights{0.25f}));
  EXPECT_EQ(route_row("softk", {kInf, 0}, {.top_k = 2}).weight, (Weights{1, 0}));
}

TEST(Route, MinusInfinityIsChosenLastWithWeightZero) {
  const Routing routing = route_row("topk_softmax", {-kInf, 5, -kInf, -3e38f}, {.top_k = 4});
  EXPECT_EQ(routing.expert, (Experts{1, 3, 0, 2}));
  EXPECT_EQ(routing.weight, (Weights{1, 0, 0, 0}));
}

TEST(Route, InfinitiesBeatTheBias) {
  const Routing routing =
      route_row("sigmoid_bias", {-kInf, 0, kInf, 0}, {.top_k = 4}, {100, 1, -100, 2});
  EXPECT_EQ(routing.expert, (Experts{2, 3, 1, 0}));
  EXPECT_FLOAT_EQ(routing.weight[0], 0.5f);
  EXPECT_EQ(routing.weight[3], 0);
}

TEST(Route, GroupsWithAnInfinityOfEitherSignStillCompare) {
  // Groups {+inf, -inf}, {1, 1}, {-inf, 9}, {-inf, -inf}.
  const std::vector<float> row = {kInf, -kInf, 1, 1, -kInf, 9, -kInf, -kInf};
  RouterParams params{.top_k = 3};
  params.n_group = 4;
  params.topk_group = 2;
  EXPECT_EQ(route_row("sigmoid_bias", row, params).expert, (Experts{0, 2, 3}));
  EXPECT_EQ(route_row("group_limited", row, params).expert, (Experts{0, 5, 1}));
}

TEST(Route, GroupsLeftOutAreNeverChosen) {
  RouterParams params{.top_k = 2};
  params.n_group = 2;
  EXPECT_EQ(route_row("group_limited", {3, 4, 5, -kInf}, params).expert, (Experts{2, 3}));
}

TEST(Route, BiasChoosesAndDoesNotWeigh) {
  const Routing routing = route_row("sigmoid_bias", {0, 0, 0, 0}, {.top_k = 2}, {0, 0, 1, 2});
  EXPECT_EQ(routing.expert, (Experts{3, 2}));
  EXPECT_EQ(routing.weight, (Weights{0.5f, 0.5f}));
}

TEST(Route, OneExpertAndAllExperts) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    if (strategy.is_soft()) continue;
    EXPECT_EQ(route_row(strategy.name, {-7}, {.top_k = 1}).expert, (Experts{0})) << strategy.name;
    for (const int num_experts : {5, 100, 1024}) {
      RoutingCase c = make_case(9, Logits::normal, 3, 1, num_experts, 0);
      c.params.top_k = num_experts;
      Context context({.threads = 1, .isa = {}});
      Routing routing;
      route(context, strategy, c.input(), c.params, routing);
      validate(routing);
      std::vector<bool> close_calls;
      const Routing reference = reference_route(strategy.name, c.input(), c.params, &close_calls);
      EXPECT_EQ(first_difference(routing, reference, 1e-4, close_calls), "") << strategy.name;
    }
  }
}

TEST(Route, NoTokensIsNoWork) {
  Context context({.threads = 2, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    if (strategy.is_soft()) continue;
    Routing routing;
    routing.expert = {1, 2, 3};
    route(context, strategy, {ConstMatrixView(nullptr, DType::f32, 0, 8, 8), {}, {}}, {}, routing);
    EXPECT_EQ(routing.num_assignments(), 0);
    EXPECT_EQ(routing.token_begin, (std::vector<std::int64_t>{0}));
    validate(routing);
  }
}

TEST(Route, HashFollowsTheTokenId) {
  Context context({.threads = 1, .isa = {}});
  const std::vector<float> logits(3 * 16, 0.0f);
  const std::vector<std::int64_t> ids = {42, 7, 42};
  Routing routing;
  route(context, StrategyRegistry::builtin().find("hash"), {matrix(logits.data(), 3, 16), {}, ids},
        {.top_k = 3}, routing);
  EXPECT_TRUE(
      std::equal(routing.expert.begin(), routing.expert.begin() + 3, routing.expert.begin() + 6));
  EXPECT_FALSE(
      std::equal(routing.expert.begin(), routing.expert.begin() + 3, routing.expert.begin() + 3));
}

TEST(Route, RandomIsUniform) {
  Context context({.threads = 1, .isa = {}});
  const std::vector<float> logits(20000 * 8, 0.0f);
  Routing routing;
  route(context, StrategyRegistry::builtin().find("random"),
        {matrix(logits.data(), 20000, 8), {}, {}}, {.top_k = 2}, routing);
  std::vector<int> count(8, 0);
  for (const std::int32_t e : routing.expert) ++count[static_cast<std::size_t>(e)];
  // 5000 each, standard deviation 61.
  for (const int n : count) EXPECT_NEAR(n, 5000, 5 * 61);
}

TEST(Route, BadParametersAreNamed) {
  const std::vector<float> row(8, 0.0f);
  const auto with = [&](RouterParams params) {
    return [&row, params] { route_row("topk_softmax", row, params); };
  };
  const auto grouped = [](int top_k, int n_group, int topk_group) {
    RouterParams params{.top_k = top_k};
    params.n_group = n_group;
    params.topk_group = topk_group;
    return params;
  };
  expect_invalid(with({.top_k = 0}), "top_k is 0: expected 1 to 8, the number of experts");
  expect_invalid(with({.top_k = 9}), "top_k is 9: expected 1 to 8, the number of experts");
  expect_invalid(with(grouped(2, 3, 1)),
                 "n_group is 3: expected a divisor of 8, the number of experts");
  expect_invalid(with(grouped(2, 0, 1)),
                 "n_group is 0: expected a divisor of 8, the number of experts");
  expect_invalid(with(grouped(2, 4, 5)), "topk_group is 5: expected 1 to 4, n_group");
  expect_invalid(with(grouped(2, 4, 0)), "topk_group is 0: expected 1 to 4, n_group");
  expect_invalid(with(grouped(3, 4, 1)),
                 "top_k is 3: expected at most 2, the experts in 1 of 4 groups");
  for (const float bad : {0.0f, -1.0f, kInf, kNan, 1e-45f}) {
    RouterParams params;
    params.temperature = bad;
    EXPECT_THROW(with(params)(), Error) << bad;
    params = {};
    params.routed_scaling_factor = bad == 1e-45f ? -kInf : bad;
    EXPECT_THROW(with(params)(), Error) << bad;
  }
  RouterParams bad_knob;
  bad_knob.sinkhorn_iters = 0;
  expect_invalid(with(bad_knob), "sinkhorn_iters is 0: expected 1 to 10000");
  bad_knob = {};
  bad_knob.choice_capacity = 0;
  expect_invalid(with(bad_knob), "choice_capacity is 0: expected a finite number above 0");
  bad_knob = {};
  bad_knob.noise_std = -1;
  expect_invalid(with(bad_knob), "noise_std is -1: expected 0 to 1000000");
  RouterParams cold;
  cold.temperature = -1;
  expect_invalid(with(cold), "temperature is -1: expected a finite number above 0");
}

TEST(Route, BadInputIsNamed) {
  Context context({.threads = 1, .isa = {}});
  const std::vector<float> x(32, 0.0f);
  const auto with = [&](const RouterInput& input) {
    return [&context, input] {
      Routing routing;
      route(context, StrategyRegistry::builtin().find("softk"), input, {}, routing);
    };
  };
  const ConstMatrixView good = matrix(x.data(), 4, 8);
  ConstMatrixView bad = good;
  bad.dtype = DType::bf16;
  expect_invalid(with({bad, {}, {}}), "logits are bf16: expected f32");
  bad = good;
  bad.cols = 0;
  expect_invalid(with({bad, {}, {}}), "logits have 0 columns: expected 1 to 1048576 experts");
  bad = good;
  bad.rows = -1;
  expect_invalid(with({bad, {}, {}}), "logits have -1 rows: expected 0 or more tokens");
  bad = good;
  bad.row_stride = 7;
  expect_invalid(with({bad, {}, {}}), "logits has row stride 7: expected at least its 8 columns");
  bad = good;
  bad.data = nullptr;
  expect_invalid(with({bad, {}, {}}), "logits is null: expected [4, 8] elements");
  const std::vector<float> short_bias(7, 0.0f), nan_bias = {0, 0, kNan, 0, 0, 0, 0, 0};
  const std::vector<std::int64_t> ids(3, 0);
  expect_invalid(with({good, short_bias, {}}),
                 "bias has 7 elements: expected 8, one per expert, or none");
  expect_invalid(with({good, nan_bias, {}}), "bias[2] is nan: expected at most 1e+30 either way");
  expect_invalid(with({good, {}, ids}),
                 "token_ids has 3 elements: expected 4, one per token, or none");
}

TEST(Registry, FindsAddsAndRefuses) {
  StrategyRegistry registry = StrategyRegistry::builtin();
  EXPECT_EQ(registry.all().front().name, "topk_softmax");
  expect_invalid([&] { registry.add({}); }, "strategy name is empty: expected a name");
  expect_invalid(
      [&] {
        registry.add({"mine", "", "", true, nullptr});
      },
      "strategy 'mine' has no route function: expected one");
  Strategy copy = registry.find("top1");
  expect_invalid([&] { registry.add(copy); }, "strategy name 'top1' is taken: expected a new one");
  Strategy both = copy;
  both.name = "both";
  both.route_soft = registry.find("soft_moe").route_soft;
  expect_invalid([&] { registry.add(both); },
                 "strategy 'both' has route and route_soft: expected one of them");
  copy.name = "mine";
  registry.add(copy);
  EXPECT_EQ(registry.find("mine").name, "mine");
  try {
    registry.find("topk_sofmax");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean topk_softmax?"), std::string::npos);
  }
  for (const Strategy& strategy : registry.all()) {
    EXPECT_FALSE(strategy.summary.empty() || strategy.source.empty()) << strategy.name;
  }
}

TEST(Reference, RefusesWhatItDoesNotKnow) {
  const std::vector<float> row(4, 0.0f);
  EXPECT_THROW(reference_route("mine", {matrix(row.data(), 1, 4), {}, {}}, {}), Error);
}

TEST(Reference, NamesTheFirstDifference) {
  const Routing reference{2, 4, {0, 2, 4}, {0, 3, 1, 2}, {0.75f, 0.25f, 0.5f, 0.5f}};
  EXPECT_EQ(first_difference(reference, reference, 0), "");
  Routing other = reference;
  other.weight[1] = 0.26f;
  EXPECT_EQ(first_difference(other, reference, 0.02), "");
  EXPECT_EQ(first_difference(other, reference, 0.01),
            "token 0 choice 1 has weight 0.26: expected 0.25");
  other.weight[1] = kNan;
  EXPECT_NE(first_difference(other, reference, 0.01), "");
  other = reference;
  other.expert[3] = 0;
  EXPECT_EQ(first_difference(other, reference, 0), "token 1 choice 1 is expert 0: expected 2");
  EXPECT_EQ(first_difference(other, reference, 0, {false, true}), "");
  other.token_begin = {0, 1, 4};
  EXPECT_NE(first_difference(other, reference, 0), "");
}

}  // namespace
}  // namespace switchyard
