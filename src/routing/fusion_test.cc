#include "routing/fusion.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <utility>

#include "plan/plan_reference.h"
#include "routing/routing_cases.h"
#include "switchyard/error.h"

// What is fused gives the bits of what is not.

namespace switchyard {
namespace {

bool same(const Routing& a, const Routing& b) {
  return a.num_tokens == b.num_tokens && a.num_experts == b.num_experts &&
         a.token_begin == b.token_begin && a.expert == b.expert && a.weight == b.weight;
}

RoutingCase any_case() {
  const auto kind = static_cast<Logits>(*rc::gen::inRange(0, static_cast<int>(Logits::count)));
  const auto num_tokens = *rc::gen::element<std::int64_t>(0, 1, 15, 16, 17, 64, 65, 300);
  return make_case(*rc::gen::arbitrary<std::uint64_t>(), kind, num_tokens,
                   *rc::gen::element(1, 2, 4), *rc::gen::element(1, 3, 16),
                   *rc::gen::element(0, 3));
}

std::vector<PlanOptions> all_options() {
  std::vector<PlanOptions> all;
  for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block, Layout::fused}) {
    for (const double factor : {0.0, 0.7}) {
      all.push_back({.layout = layout, .capacity_factor = factor, .block_rows = 8});
    }
  }
  all.push_back({.capacity_factor = 0.5, .drop_policy = DropPolicy::probs, .renormalise = true});
  return all;
}

TEST(Fusion, CountsOfTheSelectionGiveThePlan) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  EXPECT_TRUE(rc::check([&] {
    const RoutingCase c = any_case();
    Context context({.threads = *rc::gen::element(1, 2, 3), .isa = {}});
    AssignmentCounts counts;
    Routing plain, fused;
    DispatchPlan plan;
    for (const Strategy& strategy : registry.all()) {
      if (strategy.route == nullptr) continue;
      RC_TAG(strategy.name);
      route(context, strategy, c.input(), c.params, plain);
      for (const PlanOptions& options : all_options()) {
        route_fused(context, strategy, c.input(), c.params, {.counts = &counts}, fused);
        RC_ASSERT(same(plain, fused));
        RC_ASSERT(counts.hold == strategy.fuses);
        make_plan_counted(context, fused, counts, options, plan);
        RC_ASSERT(plans_are_equal(plan, plan_reference(plain, options)));
        RC_ASSERT(!counts.hold);
      }
    }
  }));
}

TEST(Fusion, LogitsComputedInThePassAreTheProducts) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t tokens : {0, 1, 63, 64, 200, 700}) {
      constexpr std::int64_t kHidden = 70;
      constexpr int kExperts = 24;
      std::vector<std::byte> x_bytes(static_cast<std::size_t>(tokens * kHidden) * size_of(dtype));
      const Philox random(5, 1);
      for (std::int64_t i = 0; i < tokens * kHidden; ++i) {
        const float value = random.normal(static_cast<std::uint64_t>(i));
        if (dtype == DType::f32) reinterpret_cast<float*>(x_bytes.data())[i] = value;
        if (dtype == DType::bf16) {
          reinterpret_cast<bf16*>(x_bytes.data())[i] = from_float<bf16>(value);
        }
      }
      const ConstMatrixView x(x_bytes.data(), dtype, tokens, kHidden, kHidden);
      std::vector<float> weights(kExperts * kHidden);
      for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = Philox(5, 2).normal(i) / 8;

      Context context({.threads = 3, .isa = {}});
      gemm::DenseProduct product(context, matrix(std::as_const(weights).data(), kExperts, kHidden),
                                 dtype);
      std::vector<float> apart(static_cast<std::size_t>(tokens * kExperts)), inside(apart.size());
      const MatrixView logits = matrix(apart.data(), tokens, kExperts);
      const MatrixView fused_logits = matrix(inside.data(), tokens, kExperts);
      product.run(context, x, logits);
      for (const Strategy& strategy : registry.all()) {
        if (strategy.route == nullptr) continue;
        SCOPED_TRACE(strategy.name);
        std::fill(inside.begin(), inside.end(), std::nanf(""));
        AssignmentCounts counts;
        Routing plain, fused;
        const RouterParams params{.top_k = 3};
        route(context, strategy, {logits, {}, {}}, params, plain);
        route_fused(context, strategy, {fused_logits, {}, {}}, params,
                    {.product = &product, .x = x, .logits = fused_logits, .counts = &counts},
                    fused);
        EXPECT_EQ(apart, inside);
        EXPECT_TRUE(same(plain, fused));
      }
    }
  }
}

TEST(Fusion, AFailedPassLeavesNoCounts) {
  std::vector<float> logits(100 * 4);
  logits[77 * 4 + 1] = std::nanf("");
  Context context({.threads = 2, .isa = {}});
  AssignmentCounts counts;
  Routing routing;
  const RouterInput input{matrix(std::as_const(logits).data(), 100, 4), {}, {}};
  const Strategy strategy = StrategyRegistry::builtin().find("softk");
  EXPECT_THROW(route_fused(context, strategy, input, {}, {.counts = &counts}, routing), Error);
  EXPECT_FALSE(counts.hold);
}

}  // namespace
}  // namespace switchyard
