#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <limits>

#include "routing/routing_cases.h"
#include "routing/routing_reference.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

SoftRouting mix(const RouterInput& input, const RouterParams& params, int threads = 1) {
  Context context({.threads = threads, .isa = {}});
  SoftRouting routing;
  route_soft(context, StrategyRegistry::builtin().find("soft_moe"), input, params, routing);
  return routing;
}

std::string error_of(const RouterInput& input, const RouterParams& params) {
  try {
    mix(input, params);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SoftMoe, AgreesWithTheReferenceForAnyThreads) {
  EXPECT_TRUE(rc::check([] {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    const auto kind = *rc::gen::element(Logits::normal, Logits::ties, Logits::large, Logits::zeros);
    const auto num_tokens = *rc::gen::element<std::int64_t>(0, 1, 2, 63, 65, 200);
    const int slots_per_expert = *rc::gen::element(1, 2, 5);
    const RoutingCase c = make_case(seed, kind, num_tokens, *rc::gen::element(1, 3, 17),
                                    slots_per_expert, *rc::gen::element(0, 3));
    RouterParams params = c.params;
    params.slots_per_expert = slots_per_expert;
    const SoftRouting routing = mix(c.input(), params);
    RC_ASSERT(routing.num_slots() == c.num_experts);
    const auto reference = reference_route_soft("soft_moe", c.input().logits);
    RC_ASSERT(routing.dispatch.size() == reference.dispatch.size());
    RC_ASSERT(routing.combine.size() == reference.combine.size());
    // Relative, up to exp's argument of 87; below 2^-126 it is 0.
    const auto close = [](float a, double b) {
      return std::fabs(a - b) <= 128 * 0x1p-23 * b + 0x1p-120;
    };
    RC_ASSERT(std::equal(routing.dispatch.begin(), routing.dispatch.end(),
                         reference.dispatch.begin(), close));
    RC_ASSERT(std::equal(routing.combine.begin(), routing.combine.end(), reference.combine.begin(),
                         close));
    const SoftRouting other = mix(c.input(), params, 3);
    RC_ASSERT(routing.dispatch == other.dispatch && routing.combine == other.combine);
  }));
}

TEST(SoftMoe, InfinitiesShareAndErrorsNameThePlace) {
  std::vector<float> x = {kInf, 0, -kInf, kInf, 1, 2};
  RouterInput input{matrix(x.data(), 3, 2), {}, {}};
  const SoftRouting routing = mix(input, {});
  EXPECT_EQ(std::vector<float>(routing.dispatch.begin(), routing.dispatch.begin() + 3),
            (std::vector<float>{1, 0, 0}));
  EXPECT_EQ(std::vector<float>(routing.combine.begin(), routing.combine.begin() + 4),
            (std::vector<float>{1, 0, 0, 1}));
  x = {-kInf, 0, -kInf, 1, -kInf, 2};
  EXPECT_EQ(error_of(input, {}), "logits of slot 0 are all -inf: expected at least one larger");
  x[3] = -kInf;
  EXPECT_EQ(error_of(input, {}), "logits of token 1 are all -inf: expected at least one larger");
  x[4] = std::numeric_limits<float>::quiet_NaN();
  x[3] = 1;
  EXPECT_EQ(error_of(input, {}), "logits[token 2, expert 0] is NaN: expected a number or infinity");
}

TEST(SoftMoe, IsNotMistakenForASendingStrategy) {
  const std::vector<float> x(6, 0.0f);
  const RouterInput input{matrix(x.data(), 2, 3), {}, {}};
  RouterParams params;
  params.slots_per_expert = 2;
  EXPECT_EQ(error_of(input, params),
            "slots_per_expert is 2: expected a divisor of 3, the number of slots");
  Context context({.threads = 1, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  Routing routing;
  SoftRouting soft;
  EXPECT_THROW(route(context, registry.find("soft_moe"), input, {}, routing), Error);
  EXPECT_THROW(route_soft(context, registry.find("top1"), input, {}, soft), Error);
}

}  // namespace
}  // namespace switchyard
