#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "routing/routing_cases.h"
#include "routing/routing_reference.h"
#include "routing/routing_reference_rules.h"
#include "switchyard/error.h"
#include "switchyard/load.h"

// What strategies that look at all tokens promise: balance, and the best assignment that has it.

namespace switchyard {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

Routing route_case(std::string_view strategy, const RoutingCase& c) {
  Context context({.threads = 2, .isa = {}});
  Routing routing;
  route(context, StrategyRegistry::builtin().find(strategy), c.input(), c.params, routing);
  validate(routing);
  return routing;
}

std::vector<std::int64_t> load_of(const Routing& routing) {
  std::vector<std::int64_t> load(index(routing.num_experts));
  for (const std::int32_t e : routing.expert) ++load[index(e)];
  return load;
}

Logits any_kind() {
  return static_cast<Logits>(*rc::gen::inRange(0, static_cast<int>(Logits::count)));
}

RoutingCase any_case(std::int64_t num_tokens, int num_experts) {
  return make_case(*rc::gen::arbitrary<std::uint64_t>(), any_kind(), num_tokens, 1, num_experts, 0);
}

TEST(Balance, ExpertChoiceGivesEveryExpertItsCapacity) {
  EXPECT_TRUE(rc::check([] {
    const RoutingCase c =
        any_case(*rc::gen::element<std::int64_t>(1, 2, 7, 64, 100), *rc::gen::element(1, 2, 5, 16));
    const double wanted =
        std::ceil(c.params.choice_capacity * static_cast<double>(c.num_tokens * c.params.top_k) /
                  c.num_experts);
    const auto capacity = std::min(static_cast<std::int64_t>(wanted), c.num_tokens);
    const auto load = load_of(route_case("expert_choice", c));
    RC_ASSERT(load == std::vector<std::int64_t>(load.size(), capacity));
    RC_ASSERT(load_stats(load).cv == 0);
  }));
}

TEST(Balance, ExpertChoiceLeavesTokensThatNobodyWants) {
  // Both experts like tokens 0 and 1 best, as C = ceil(1 * 4 * 1 / 2) = 2 allows.
  RoutingCase c = make_case(1, Logits::equal, 4, 1, 2, 0);
  c.logits = {9, 9, 9, 8, 1, 0, 0, 1};
  c.params.top_k = 1;
  c.params.choice_capacity = 1;
  const Routing routing = route_case("expert_choice", c);
  // p of expert 0: 0.5, 0.73, 0.73, 0.27; of expert 1: 0.5, 0.27, 0.27, 0.73.
  EXPECT_EQ(routing.token_begin, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  c.logits = {9, 9, 5, 5, 1, 0, 1, 0};
  // p of expert 0: 0.5, 0.5, 0.73, 0.73; of expert 1: 0.5, 0.5, 0.27, 0.27.
  EXPECT_EQ(route_case("expert_choice", c).expert, (std::vector<std::int32_t>{1, 1, 0, 0}));
  c.params.choice_capacity = 0.5;
  const Routing scarce = route_case("expert_choice", c);
  EXPECT_EQ(scarce.token_begin, (std::vector<std::int64_t>{0, 1, 1, 2, 2}));
  EXPECT_EQ(scarce.expert, (std::vector<std::int32_t>{1, 0}));
}

TEST(Balance, ExpertChoiceOfConstantLogitsTakesTheFirstTokens) {
  RoutingCase c = make_case(1, Logits::equal, 10, 1, 4, 0);
  c.params.top_k = 2;
  c.params.choice_capacity = 0.6;  // 3 tokens
  const Routing routing = route_case("expert_choice", c);
  EXPECT_EQ(routing.token_begin,
            (std::vector<std::int64_t>{0, 4, 8, 12, 12, 12, 12, 12, 12, 12, 12}));
  EXPECT_EQ(std::vector<std::int32_t>(routing.expert.begin(), routing.expert.begin() + 4),
            (std::vector<std::int32_t>{0, 1, 2, 3}));
  for (const float weight : routing.weight) EXPECT_FLOAT_EQ(weight, 0.25f);
}

RoutingCase reversed(const RoutingCase& c) {
  RoutingCase out = c;
  for (std::int64_t t = 0; t < c.num_tokens; ++t) {
    std::copy_n(c.logits.begin() + t * c.row_stride, c.num_experts,
                out.logits.begin() + (c.num_tokens - 1 - t) * c.row_stride);
  }
  return out;
}

TEST(Balance, ExpertChoiceOfDistinctTokensFollowsTheirOrder) {
  EXPECT_TRUE(rc::check([] {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    const RoutingCase c = make_case(seed, Logits::normal, 50, 1, 8, 0);
    std::vector<bool> close_calls;
    reference_route("expert_choice", c.input(), c.params, &close_calls);
    const Routing a = route_case("expert_choice", c);
    const Routing b = route_case("expert_choice", reversed(c));
    for (std::size_t t = 0; t < 50; ++t) {
      if (close_calls[t]) continue;
      const auto begin = a.token_begin[t], count = a.token_begin[t + 1] - begin;
      RC_ASSERT(b.token_begin[50 - t] - b.token_begin[49 - t] == count);
      RC_ASSERT(std::equal(a.expert.begin() + begin, a.expert.begin() + begin + count,
                           b.expert.begin() + b.token_begin[49 - t]));
    }
  }));
}

TEST(Balance, BaseGivesEveryExpertItsShare) {
  EXPECT_TRUE(rc::check([] {
    const RoutingCase c = any_case(*rc::gen::element<std::int64_t>(1, 2, 3, 7, 48, 64, 100),
                                   *rc::gen::element(1, 2, 3, 8, 16));
    const Routing routing = route_case("base", c);
    const auto load = load_of(routing);
    const auto [least, most] = std::minmax_element(load.begin(), load.end());
    RC_ASSERT(*least == c.num_tokens / c.num_experts);
    RC_ASSERT(*most - *least == (c.num_tokens % c.num_experts == 0 ? 0 : 1));
    RC_ASSERT((load_stats(load).cv == 0) == (c.num_tokens % c.num_experts == 0));
  }));
}

double total_of(const RoutingCase& c, const std::vector<std::int32_t>& expert) {
  double total = 0;
  for (std::size_t t = 0; t < expert.size(); ++t) {
    total += c.logits[t * index(c.row_stride) + index(expert[t])];
  }
  return total;
}

// The largest total of the assignments in which experts have floor(T/E) or ceil(T/E) tokens.
double best_total(const RoutingCase& c) {
  const std::int64_t floor = c.num_tokens / c.num_experts;
  const std::int64_t ceil = floor + (c.num_tokens % c.num_experts == 0 ? 0 : 1);
  std::vector<std::int64_t> load(index(c.num_experts));
  std::vector<std::int32_t> expert(index(c.num_tokens));
  double best = -1e300;
  const std::function<void(std::size_t)> place = [&](std::size_t t) {
    if (t == expert.size()) {
      if (*std::min_element(load.begin(), load.end()) >= floor) {
        best = std::max(best, total_of(c, expert));
      }
      return;
    }
    for (int e = 0; e < c.num_experts; ++e) {
      if (load[index(e)] == ceil) continue;
      expert[t] = e;
      ++load[index(e)];
      place(t + 1);
      --load[index(e)];
    }
  };
  place(0);
  return best;
}

double range_of(const RoutingCase& c) {
  const auto [least, most] = std::minmax_element(c.logits.begin(), c.logits.end());
  return static_cast<double>(*most) - static_cast<double>(*least);
}

TEST(Balance, BaseIsAsGoodAsTryingEverything) {
  EXPECT_TRUE(rc::check([] {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    const auto kind = *rc::gen::element(Logits::normal, Logits::ties, Logits::equal, Logits::large);
    const auto num_tokens = *rc::gen::inRange<std::int64_t>(1, 8);
    const RoutingCase c = make_case(seed, kind, num_tokens, 1, *rc::gen::inRange(1, 4), 0);
    const double bound = static_cast<double>(num_tokens) * 2 * range_of(c) * 0x1p-20;
    RC_ASSERT(total_of(c, route_case("base", c).expert) >= best_total(c) - bound - 1e-9);
  }));
}

// A tie may fall otherwise, but the total stays.
TEST(Balance, BaseOfReversedTokensIsAsGood) {
  EXPECT_TRUE(rc::check([] {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    const RoutingCase c = make_case(seed, Logits::normal, 90, 1, 8, 0), mirror = reversed(c);
    const double bound = 90 * 2 * range_of(c) * 0x1p-20;
    RC_ASSERT(std::fabs(total_of(c, route_case("base", c).expert) -
                        total_of(mirror, route_case("base", mirror).expert)) <= bound);
  }));
}

TEST(Balance, BaseAvoidsMinusInfinityWhileItCan) {
  // Three experts, six tokens; token 5 may only go to expert 2, tokens 0 to 3 not to expert 0 or 1.
  RoutingCase c = make_case(1, Logits::equal, 6, 1, 3, 0);
  c.logits = {-kInf, 5, 6, -kInf, 5, 9, 5, -kInf, 7, 5, 1, -kInf, 0, 9, 1000, -kInf, -kInf, 1};
  EXPECT_EQ(route_case("base", c).expert, (std::vector<std::int32_t>{1, 1, 0, 0, 2, 2}));
  // Nothing else is left: two experts, everybody barred from the second.
  c = make_case(1, Logits::equal, 4, 1, 2, 0);
  c.params.top_k = 1;
  c.logits = {1, -kInf, 2, -kInf, 3, -kInf, 4, -kInf};
  const Routing routing = route_case("base", c);
  EXPECT_EQ(load_of(routing), (std::vector<std::int64_t>{2, 2}));
  for (std::size_t t = 0; t < 4; ++t) {
    EXPECT_TRUE(routing.expert[t] == 0 || routing.weight[t] == 0);
  }
}

TEST(Balance, SinkhornConverges) {
  RoutingCase c = make_case(5, Logits::normal, 200, 1, 8, 0);
  for (std::int64_t t = 0; t < c.num_tokens; ++t) {
    c.logits[index(t * c.row_stride)] += 3;
    c.logits[index(t * c.row_stride) + 1] += 1;
  }
  c.params.top_k = 1;
  c.params.temperature = 1;
  double last_error = 1e300;
  for (const int iters : {1, 3, 9}) {
    c.params.sinkhorn_iters = iters;
    const double error = reference::sinkhorn_column_error(c.input(), c.params);
    EXPECT_LT(error, last_error / 4) << iters;
    last_error = error;
  }
  EXPECT_LT(last_error, 1e-3);
  EXPECT_LT(load_stats(load_of(route_case("sinkhorn", c))).cv, 0.25);
  EXPECT_GT(load_stats(load_of(route_case("top1", c))).cv, 1);
}

TEST(Balance, SinkhornWeighsOneExpertBySigmoid) {
  RoutingCase c = make_case(5, Logits::equal, 2, 1, 2, 0);
  c.logits = {0, 2, kInf, 0};
  c.params.top_k = 1;
  const Routing routing = route_case("sinkhorn", c);
  EXPECT_EQ(routing.expert, (std::vector<std::int32_t>{1, 0}));
  EXPECT_FLOAT_EQ(routing.weight[0], 0.8807971f);
  EXPECT_EQ(routing.weight[1], 1);
}

TEST(Noise, SpreadsAndFollowsItsLogits) {
  Context context({.threads = 2, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  const Strategy& noisy = registry.find("noisy_topk");
  constexpr std::int64_t kTokens = 4000;
  std::vector<float> logits, noise(kTokens * 4);
  for (std::int64_t t = 0; t < kTokens; ++t) logits.insert(logits.end(), {1, 0, 0, 0});
  RouterInput input{matrix(logits.data(), kTokens, 4), {}, {}};
  RouterParams params{.top_k = 1};
  Routing routing;
  route(context, noisy, input, params, routing);
  // P(1 + n0 > max of three normals) = 0.52 by numerical integration; standard deviation 0.008.
  EXPECT_NEAR(static_cast<double>(load_of(routing)[0]) / kTokens, 0.523, 0.04);
  params.noise_std = 0;
  route(context, noisy, input, params, routing);
  EXPECT_EQ(load_of(routing)[0], kTokens);
  // softplus(-60) is nothing, softplus(60) is 60: expert 3 wins or loses by far.
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = i % 4 == 3 ? 60.0f : -60.0f;
  input.noise_logits = matrix(noise.data(), kTokens, 4);
  route(context, noisy, input, params, routing);
  EXPECT_NEAR(static_cast<double>(load_of(routing)[3]) / kTokens, 0.5, 0.05);
  EXPECT_EQ(load_of(routing)[1] + load_of(routing)[2], 0);
  noise[9] = kInf;
  try {
    route(context, noisy, input, params, routing);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "noise_logits[token 2, expert 1] is inf: expected a finite number");
  }
}

}  // namespace
}  // namespace switchyard
