#include <gtest/gtest.h>

#include <cmath>

#include "layer/layer_testing.h"
#include "switchyard/error.h"

// Layers whose strategy mixes, and the noisy router.

namespace switchyard {
namespace {

using testing::Tensor;
using testing::TestLayer;

constexpr int kSlots = 3;

/// A TestLayer with a router of kSlots rows per expert.
struct SoftLayer : TestLayer {
  explicit SoftLayer(const Options& o)
      : TestLayer(o), slot_router(DType::f32, o.experts * kSlots, o.hidden) {
    slot_router.fill_normal(o.seed, 8, 2 / std::sqrt(static_cast<float>(o.hidden)));
    weights.router = slot_router.view();
    config.strategy = StrategyRegistry::builtin().find("soft_moe");
    config.router.slots_per_expert = kSlots;
  }

  double error_over_tolerance(const SoftRouting& routing) const {
    std::vector<double> slots;
    for (std::int64_t s = 0; s < routing.num_slots(); ++s) {
      const auto slot = reference_expert(weights.experts, s / routing.slots_per_expert,
                                         reference_slot(x.view(), routing, s));
      slots.insert(slots.end(), slot.begin(), slot.end());
    }
    const auto expected = reference_mixed(x.view(), routing, slots, weights, {});
    const auto depth = static_cast<double>(options.tokens + routing.num_slots());
    return relative_error(out.view(), expected, {}) /
           (layer_tolerance(options.dtype, options.dtype, options.hidden, options.ffn + 3) +
            2 * std::sqrt(depth) * epsilon_of(DType::f32));
  }

  Tensor slot_router;
};

TEST(SoftLayer, MatchesTheOracleForEveryImplementationThatIsHere) {
  for (const std::string_view implementation : expert_implementations()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      SoftLayer test({.dtype = dtype,
                      .implementation = std::string(implementation),
                      .tokens = 150,
                      .hidden = 137,
                      .shared = true,
                      .gap = 3});
      Context context({.threads = 2, .isa = {}});
      try {
        MoeLayer layer(context, test.config, test.weights);
        layer.forward(context, test.x.view(), test.out.view());
        EXPECT_LE(test.error_over_tolerance(layer.soft_routing()), 1)
            << implementation << " " << name_of(dtype);
        EXPECT_EQ(layer.plan().num_rows(), 6 * kSlots);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::unavailable) << error.what();
      }
    }
  }
}

TEST(SoftLayer, ThreadsDoNotChangeBits) {
  std::vector<std::byte> expected;
  for (const int threads : {1, 2, 3}) {
    SoftLayer test({.tokens = 77, .hidden = 300});
    Context context({.threads = threads, .isa = {}});
    MoeLayer layer(context, test.config, test.weights);
    layer.forward(context, test.x.view(), test.out.view());
    if (expected.empty()) expected = test.out.bytes();
    EXPECT_EQ(test.out.bytes(), expected) << threads;
  }
}

TEST(SoftLayer, SurvivesNoTokensAndOne) {
  for (const std::int64_t tokens : {0, 1}) {
    SoftLayer test({.tokens = tokens});
    Context context({.threads = 1, .isa = {}});
    MoeLayer layer(context, test.config, test.weights);
    layer.forward(context, test.x.view(), test.out.view());
    EXPECT_LE(test.error_over_tolerance(layer.soft_routing()), 1);
  }
}

TEST(SoftLayer, RefusesWhatItCannotDo) {
  SoftLayer test({});
  Context context({.threads = 1, .isa = {}});
  MoeLayer layer(context, test.config, test.weights);
  EXPECT_THROW(layer.forward(context, test.x.view(), Routing{}, test.out.view()), Error);
  test.weights.router = test.router.view();
  EXPECT_THROW(MoeLayer(context, test.config, test.weights), Error);
}

TEST(NoisyLayer, TakesItsNoiseFromASecondRouter) {
  TestLayer test({.strategy = "noisy_topk"});
  Tensor noise_router(DType::f32, test.options.experts, test.options.hidden);
  noise_router.fill_normal(5, 0, 1);
  Context context({.threads = 1, .isa = {}});
  const auto routed = [&] {
    MoeLayer layer(context, test.config, test.weights);
    layer.forward(context, test.x.view(), test.out.view());
    EXPECT_LE(test.error_over_tolerance(layer), 1);
    return layer.routing().weight;
  };
  const auto plain = routed();
  test.weights.router_noise = noise_router.view();
  EXPECT_NE(routed(), plain);
  test.weights.router_noise.rows -= 1;
  EXPECT_THROW(MoeLayer(context, test.config, test.weights), Error);
}

}  // namespace
}  // namespace switchyard
