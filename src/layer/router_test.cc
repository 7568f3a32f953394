#include "switchyard/router.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "layer/layer_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::Tensor;

constexpr RouterArch kArchs[] = {RouterArch::linear, RouterArch::mlp, RouterArch::mlp_hadamard};

/// A router of random weights whose logits have about unit variance.
struct TestRouter {
  TestRouter(RouterArch arch, DType dtype, std::int64_t experts, std::int64_t hidden,
             std::int64_t width, std::int64_t gap)
      : up(dtype, width, hidden, gap),
        down(dtype, hidden, width, gap),
        out(dtype, experts, arch == RouterArch::mlp ? width : hidden, gap) {
    const auto root = [](std::int64_t n) { return std::sqrt(static_cast<float>(n)); };
    up.fill_normal(3, 1, 1 / root(hidden));
    down.fill_normal(3, 2, 1.5f / root(width));
    out.fill_normal(3, 3, 1.5f / root(arch == RouterArch::mlp ? width : hidden));
    if (arch == RouterArch::linear) weights = out.view();
    if (arch == RouterArch::mlp) weights = RouterWeights::mlp(up.view(), out.view());
    if (arch == RouterArch::mlp_hadamard) {
      weights = RouterWeights::mlp_hadamard(up.view(), down.view(), out.view());
    }
  }
  TestRouter(const TestRouter&) = delete;
  TestRouter& operator=(const TestRouter&) = delete;

  Tensor up, down, out;
  RouterWeights weights;
};

Tensor logits_of(const RouterWeights& weights, const Tensor& x, int threads) {
  Context context({.threads = threads, .isa = {}});
  Router router(context, weights, x.view().dtype);
  Tensor logits(DType::f32, x.view().rows, weights.num_experts(), 1);
  router.logits(context, x.view(), logits.view());
  return logits;
}

TEST(Router, EveryArchitectureMatchesTheReference) {
  EXPECT_TRUE(rc::check([] {
    const RouterArch arch = *rc::gen::elementOf(std::vector<RouterArch>(kArchs, kArchs + 3));
    const DType dtype = *rc::gen::element(DType::f32, DType::bf16, DType::f16);
    const DType weights = *rc::gen::element(DType::f32, dtype);
    const TestRouter router(arch, weights, *rc::gen::inRange(1, 70), *rc::gen::inRange(8, 100),
                            *rc::gen::inRange(8, 130), *rc::gen::element(0, 3));
    Tensor x(dtype, *rc::gen::element(8, 64, 600), router.weights.hidden(), 2);
    x.fill_normal(3, 4, 1);
    const Tensor logits = logits_of(router.weights, x, 2);
    const double error =
        relative_error(logits.view(), reference_logits(x.view(), router.weights), {});
    RC_ASSERT(error <= 2 * logits_tolerance(router.weights, dtype));  // few elements: see numerics
  }));
}

TEST(Router, ThreadsAndOtherTokensDoNotChangeBits) {
  for (const RouterArch arch : kArchs) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const TestRouter router(arch, dtype, 9, 40, 70, 0);
      Tensor x(dtype, 700, 40), last(dtype, 1, 40);
      x.fill_normal(3, 4, 1);
      const Tensor one = logits_of(router.weights, x, 1), three = logits_of(router.weights, x, 3);
      ASSERT_EQ(one.bytes(), three.bytes());
      ConstMatrixView alone = x.view();
      alone.data = x.view().row(699);
      alone.rows = 1;
      Context context({.threads = 1, .isa = {}});
      Tensor logits(DType::f32, 1, 9);
      Router(context, router.weights, dtype).logits(context, alone, logits.view());
      EXPECT_EQ(std::memcmp(logits.view().data, one.view().row(699), 9 * sizeof(float)), 0);
    }
  }
}

TEST(Router, NoTokensAreFine) {
  for (const RouterArch arch : kArchs) {
    const TestRouter router(arch, DType::f32, 4, 16, 8, 0);
    EXPECT_EQ(logits_of(router.weights, Tensor(DType::f32, 0, 16), 2).bytes().size(), 0u);
  }
}

TEST(Router, RunsInFrontOfALayer) {
  for (const RouterArch arch : kArchs) {
    testing::TestLayer layer({});
    const TestRouter router(arch, DType::f32, 6, 40, 20, 0);
    layer.weights.router = router.weights;
    Context context({.threads = 2, .isa = {}});
    MoeLayer moe(context, layer.config, layer.weights);
    moe.forward(context, layer.x.view(), layer.out.view());

    const auto reference = reference_logits(layer.x.view(), router.weights);
    const std::vector<float> logits(reference.begin(), reference.end());
    Routing routing;
    route(context, layer.config.strategy, {matrix(logits.data(), 29, 6), {}, {}},
          layer.config.router, routing);
    EXPECT_EQ(moe.routing().expert, routing.expert) << name_of(arch);
    EXPECT_LE(layer.error_over_tolerance(moe), 1) << name_of(arch);
  }
}

TEST(Router, RefusesWhatDoesNotFit) {
  Context context({.threads = 1, .isa = {}});
  const Tensor up(DType::f32, 8, 16), down(DType::f32, 16, 8), out(DType::f32, 4, 16);
  const Tensor half(DType::f16, 8, 16);
  const auto make = [&](const RouterWeights& weights) { Router(context, weights, DType::f32); };
  EXPECT_NO_THROW(make(RouterWeights::mlp_hadamard(up.view(), down.view(), out.view())));
  EXPECT_THROW(make(RouterWeights()), Error);
  EXPECT_THROW(make(RouterWeights::mlp(up.view(), out.view())), Error);
  EXPECT_THROW(make(RouterWeights::mlp_hadamard(up.view(), up.view(), out.view())), Error);
  EXPECT_THROW(make(RouterWeights::mlp_hadamard(half.view(), down.view(), out.view())), Error);
  EXPECT_THROW(make(half.view()), Error);
  EXPECT_THROW(router_arch_from_name("conv"), Error);
  EXPECT_EQ(router_arch_from_name("mlp"), RouterArch::mlp);
}

}  // namespace
}  // namespace switchyard
