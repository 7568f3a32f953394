#include "switchyard/layer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/context.h"
#include "layer/layer_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::Tensor;
using testing::TestLayer;

constexpr Layout kLayouts[] = {Layout::compact, Layout::capacity, Layout::block, Layout::fused};

/// Leaves NaN in the scratch that the next calls will be given.
void poison_scratch(Context& context) {
  constexpr std::int64_t kBytes = 1 << 20;
  for (int i = 0; i < 2; ++i) {  // the first round grows the arena, the second fills it
    Arena::Scope scope(arena_of(context));
    const auto bytes = scope.take<std::byte>(kBytes);
    std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
  }
}

/// Runs the layer on two threads over poisoned scratch. Null when this build lacks the
/// implementation.
std::unique_ptr<MoeLayer> run(TestLayer& test, const Routing* routing = nullptr) {
  Context context({.threads = 2, .isa = {}});
  poison_scratch(context);
  try {
    auto layer = std::make_unique<MoeLayer>(context, test.config, test.weights);
    if (routing != nullptr) {
      layer->forward(context, test.x.view(), *routing, test.out.view());
    } else {
      layer->forward(context, test.x.view(), test.out.view());
    }
    return layer;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::unavailable) throw;
    return nullptr;
  }
}

void expect_right(const TestLayer::Options& options, const Routing* routing = nullptr) {
  SCOPED_TRACE(std::string(name_of(options.plan.layout)) + " " + options.strategy +
               " T=" + std::to_string(options.tokens) + " E=" + std::to_string(options.experts) +
               " K=" + std::to_string(options.top_k));
  TestLayer test(options);
  const auto layer = run(test, routing);
  if (layer == nullptr) return;
  EXPECT_LE(test.error_over_tolerance(*layer), 1);
}

struct Case {
  std::string_view implementation;
  DType dtype;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.implementation << "_" << name_of(c.dtype);
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const std::string_view implementation : expert_implementations()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      out.push_back({implementation, dtype});
    }
  }
  return out;
}

class Layer : public ::testing::TestWithParam<Case> {
 protected:
  static TestLayer::Options options() {
    TestLayer::Options o;
    o.implementation = GetParam().implementation;
    o.dtype = GetParam().dtype;
    return o;
  }
};

TEST_P(Layer, MatchesTheOracleInEveryLayout) {
  for (const Layout layout : kLayouts) {
    TestLayer::Options o = options();
    o.plan.layout = layout;
    o.plan.block_rows = 5;
    expect_right(o);
    o.plan.capacity_factor = 0.75;
    o.plan.renormalise = true;
    o.plan.drop_policy = DropPolicy::probs;
    expect_right(o);
  }
}

TEST_P(Layer, MatchesTheOracleForEveryStrategy) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    if (strategy.is_soft()) continue;
    TestLayer::Options o = options();
    o.strategy = strategy.name;
    if (strategy.name == "top1") o.top_k = 1;
    expect_right(o);
  }
}

TEST_P(Layer, MatchesTheOracleWithStridesAndSizesOfNoTile) {
  TestLayer::Options o = options();
  o.hidden = 37;
  o.ffn = 19;
  o.gap = 3;
  o.gated = false;
  o.activation = Activation::gelu;
  expect_right(o);
  o.plan.layout = Layout::fused;
  expect_right(o);
}

TEST_P(Layer, SurvivesExtremeSizes) {
  TestLayer::Options o = options();
  o.tokens = 0;
  expect_right(o);
  o.tokens = 1;
  expect_right(o);
  o.top_k = o.experts;
  expect_right(o);
  o.experts = o.top_k = 1;
  expect_right(o);
  o.tokens = 70;
  expect_right(o);
}

TEST_P(Layer, SurvivesAllTokensOnOneExpert) {
  TestLayer::Options o = options();
  Routing routing{o.tokens, o.experts, {0}, {}, {}};
  for (std::int64_t t = 0; t < o.tokens; ++t) {
    routing.expert.push_back(4);
    routing.weight.push_back(0.5f);
    routing.token_begin.push_back(t + 1);
  }
  for (const Layout layout : kLayouts) {
    o.plan.layout = layout;
    expect_right(o, &routing);
  }
}

TEST_P(Layer, SurvivesTokensWithoutExperts) {
  TestLayer::Options o = options();
  o.tokens = 3;
  const Routing routing{3, o.experts, {0, 0, 1, 1}, {2}, {1}};
  TestLayer test(o);
  const auto layer = run(test, &routing);
  if (layer == nullptr) GTEST_SKIP() << "not in this build";
  EXPECT_LE(test.error_over_tolerance(*layer), 1);
  const std::vector<double> zeros(static_cast<std::size_t>(2 * o.hidden), 0.0);
  EXPECT_EQ(relative_error(test.out.view(), zeros, std::vector<std::int64_t>{0, 2}), 0);
}

TEST_P(Layer, AddsTheSharedExpert) {
  for (const bool gate : {false, true}) {
    TestLayer::Options o = options();
    o.shared = true;
    o.shared_gate = gate;
    expect_right(o);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Layer, ::testing::ValuesIn(cases()),
                         ::testing::PrintToStringParamName());

TEST(LayerRouting, ChoosesTheLargestLogitsOfTheOracle) {
  TestLayer test({});
  const auto layer = run(test);
  const auto logits = reference_logits(test.x.view(), test.router.view());
  const Routing& routing = layer->routing();
  const auto num_experts = static_cast<std::size_t>(routing.num_experts);
  ASSERT_EQ(routing.num_assignments(), test.options.tokens * test.options.top_k);
  for (std::size_t t = 0; t < static_cast<std::size_t>(routing.num_tokens); ++t) {
    std::vector<double> row(logits.begin() + static_cast<std::ptrdiff_t>(t * num_experts),
                            logits.begin() + static_cast<std::ptrdiff_t>((t + 1) * num_experts));
    const double first = row[static_cast<std::size_t>(routing.expert[2 * t])];
    const double second = row[static_cast<std::size_t>(routing.expert[2 * t + 1])];
    std::sort(row.rbegin(), row.rend());
    EXPECT_NEAR(first, row[0], 1e-5);
    EXPECT_NEAR(second, row[1], 1e-5);
    EXPECT_NEAR(routing.weight[2 * t], 1 / (1 + std::exp(second - first)), 1e-5);
  }
}

TEST(LayerRouting, GivenRoutingGivesTheSameBits) {
  TestLayer test({});
  const auto layer = run(test);
  const std::vector<std::byte> first = test.out.bytes();
  const Routing routing = layer->routing();
  run(test, &routing);
  EXPECT_EQ(test.out.bytes(), first);
}

TEST(LayerScratch, HoldsNoPackedRowsWhenFused) {
  const auto scratch = [](DType dtype, Layout layout) {
    TestLayer::Options o;
    o.dtype = dtype;
    o.tokens = 2000;  // rows outweigh what the router takes before them
    o.hidden = o.ffn = 64;
    o.plan.layout = layout;
    TestLayer test(o);
    Context context({.threads = 2, .isa = {}});
    MoeLayer layer(context, test.config, test.weights);
    layer.forward(context, test.x.view(), test.out.view());
    return arena_of(context).high_water();
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto packed = static_cast<std::int64_t>(2000 * 2 * 64 * size_of(dtype));
    EXPECT_LE(scratch(dtype, Layout::fused), scratch(dtype, Layout::compact) - packed)
        << name_of(dtype);
  }
}

TEST(LayerTimes, CoverTheStages) {
  TestLayer::Options o;
  o.shared = true;
  TestLayer test(o);
  Context context({.threads = 1, .isa = {}});
  MoeLayer layer(context, test.config, test.weights);
  StageTimes times{-1, -1, -1, -1, -1, -1, -1};
  layer.forward(context, test.x.view(), test.out.view(), &times);
  for (const double t : {times.logits, times.select, times.plan, times.pack, times.experts,
                         times.combine, times.shared}) {
    EXPECT_GE(t, 0);
  }
  EXPECT_GT(times.experts, 0);
  layer.forward(context, test.x.view(), layer.routing(), test.out.view(), &times);
  EXPECT_EQ(times.logits, 0);
  EXPECT_EQ(times.select, 0);
}

TEST(LayerErrors, NameTheTensorThatDoesNotFit) {
  const auto sentence = [](auto spoil) -> std::string {
    TestLayer::Options o;
    o.shared = o.shared_gate = true;
    TestLayer test(o);
    spoil(test);
    try {
      run(test);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(sentence([](TestLayer& t) { t.weights.router.out.rows = 5; }),
            "router has 5 outputs for hidden size 40: expected 6 for 40");
  EXPECT_EQ(sentence([](TestLayer& t) { t.weights.router.out.dtype = DType::f16; }),
            "router is f16: expected f32 or the tokens' f32");
  static const std::vector<float> bias(4);
  EXPECT_EQ(sentence([](TestLayer& t) { t.weights.bias = bias; }),
            "bias has 4 elements: expected 6 or none");
  EXPECT_EQ(sentence([](TestLayer& t) { t.weights.shared = {}; }),
            "shared_gate is given without shared: expected both or neither");
  EXPECT_EQ(sentence([](TestLayer& t) { t.weights.shared_gate.cols = 39; }),
            "shared_gate is [1, 39]: expected [1, 40]");
  EXPECT_EQ(sentence([](TestLayer& t) { t.weights.shared.up.count = 2; }),
            "shared holds 2 experts: expected 1 of their joint width");
  EXPECT_NE(sentence([](TestLayer& t) {
              t.config.implementation = "gruoped";
            }).find("did you mean grouped?"),
            std::string::npos);
  EXPECT_EQ(sentence([](TestLayer& t) { t.x = Tensor(DType::f32, 29, 39); }),
            "x has 39 columns: expected the hidden size 40");
  EXPECT_EQ(sentence([](TestLayer& t) { t.out = Tensor(DType::f32, 28, 40); }),
            "out is [28, 40]: expected [29, 40]");
  EXPECT_EQ(sentence([](TestLayer& t) { t.out = Tensor(DType::bf16, 29, 40); }),
            "x is f32 and out is bf16: expected the layer's f32");
  EXPECT_NE(sentence([](TestLayer& t) {
              t.x.set(3, 7, std::numeric_limits<float>::quiet_NaN());
            }).find("token 3"),
            std::string::npos);
}

TEST(LayerErrors, RoutingMustBeForTheseTokensAndExperts) {
  TestLayer test({});
  const Routing two_tokens{2, 6, {0, 1, 2}, {0, 1}, {1, 1}};
  EXPECT_THROW(run(test, &two_tokens), Error);
  Routing seven_experts{29, 7, std::vector<std::int64_t>(30, 0), {}, {}};
  EXPECT_THROW(run(test, &seven_experts), Error);
}

}  // namespace
}  // namespace switchyard
