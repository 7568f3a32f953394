#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "routing/routing_cases.h"
#include "routing/routing_reference.h"
#include "switchyard/error.h"

// Laws of every strategy in the registry, on random and adversarial logits.

namespace switchyard {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

Routing route_with(const Strategy& strategy, const RoutingCase& c, int threads = 1,
                   Isa isa = default_isa()) {
  Context context({.threads = threads, .isa = isa});
  Routing routing;
  route(context, strategy, c.input(), c.params, routing);
  return routing;
}

bool same_bits(const Routing& a, const Routing& b) {
  const auto same = [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  };
  return a.num_tokens == b.num_tokens && a.num_experts == b.num_experts &&
         a.token_begin == b.token_begin && a.expert == b.expert &&
         std::equal(a.weight.begin(), a.weight.end(), b.weight.begin(), b.weight.end(), same);
}

RoutingCase any_case() {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto kind = static_cast<Logits>(*rc::gen::inRange(0, static_cast<int>(Logits::count)));
  const auto num_tokens = *rc::gen::element<std::int64_t>(0, 1, 2, 15, 16, 17, 64, 65, 200);
  const int num_groups = *rc::gen::element(1, 2, 4, 8);
  const int group_size = *rc::gen::element(1, 2, 3, 8, 16, 33);
  return make_case(seed, kind, num_tokens, num_groups, group_size, *rc::gen::element(0, 1, 7));
}

// Calls law(strategy, case) for every strategy that sends tokens, on many cases.
template <class Law>
void holds(Law law) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  EXPECT_TRUE(rc::check([&] {
    const RoutingCase c = any_case();
    for (const Strategy& strategy : registry.all()) {
      if (strategy.is_soft()) continue;  // soft_routing_test.cc
      RC_TAG(strategy.name);
      law(strategy, c);
    }
  }));
}

// Weights differ by a few roundings, by the rounding of exp's argument (up to 88 for a weight that
// f32 holds, but then tiny beside the largest), and by the sum of K terms.
// Where experts choose, a token's largest weight may be one of those.
double weight_tol(const RoutingCase& c, const Strategy& strategy) {
  const int largest = strategy.name == "expert_choice" ? 128 : 0;
  return (16 + c.params.top_k + largest) * epsilon_of(DType::f32);
}

TEST(RoutingProperties, AgreesWithTheReference) {
  holds([](const Strategy& strategy, const RoutingCase& c) {
    const Routing routing = route_with(strategy, c);
    validate(routing);
    std::vector<bool> close_calls;
    const Routing reference = reference_route(strategy.name, c.input(), c.params, &close_calls);
    const std::string difference =
        first_difference(routing, reference, weight_tol(c, strategy), close_calls);
    if (!difference.empty()) RC_FAIL(strategy.name + ": " + difference);
  });
}

TEST(RoutingProperties, ThreadsAndRunsAndIsasAgreeBitForBit) {
  holds([](const Strategy& strategy, const RoutingCase& c) {
    const Routing expected = route_with(strategy, c);
    RC_ASSERT(same_bits(expected, route_with(strategy, c)));
    RC_ASSERT(same_bits(expected, route_with(strategy, c, 3)));
    for (const Isa isa : kAllIsas) {
      if (isa_is_available(isa)) RC_ASSERT(same_bits(expected, route_with(strategy, c, 2, isa)));
    }
  });
}

TEST(RoutingProperties, StridedLogitsRouteAsDenseOnes) {
  holds([](const Strategy& strategy, const RoutingCase& c) {
    RoutingCase dense = c;
    dense.row_stride = c.num_experts;
    dense.logits.clear();
    for (std::int64_t t = 0; t < c.num_tokens; ++t) {
      const auto row = c.logits.begin() + t * c.row_stride;
      dense.logits.insert(dense.logits.end(), row, row + c.num_experts);
    }
    RC_ASSERT(same_bits(route_with(strategy, c), route_with(strategy, dense)));
  });
}

TEST(RoutingProperties, ReversingTokensReversesTheRouting) {
  holds([](const Strategy& strategy, const RoutingCase& c) {
    if (strategy.name == "random" || strategy.name == "noisy_topk") return;  // draw by position
    // Ties between tokens go by position: see balance_test.cc.
    if (strategy.name == "expert_choice" || strategy.name == "base") return;
    std::vector<bool> close_calls;  // where the order of a sum over tokens may decide
    if (!strategy.causal) {
      reference_route(strategy.name, c.input(), c.params, &close_calls);
    }
    RoutingCase reversed = c;
    std::reverse(reversed.token_ids.begin(), reversed.token_ids.end());
    for (std::int64_t t = 0; t < c.num_tokens; ++t) {
      std::copy_n(c.logits.begin() + t * c.row_stride, c.num_experts,
                  reversed.logits.begin() + (c.num_tokens - 1 - t) * c.row_stride);
    }
    const Routing a = route_with(strategy, c), b = route_with(strategy, reversed);
    for (std::size_t t = 0; t < static_cast<std::size_t>(c.num_tokens); ++t) {
      const std::size_t mirror = static_cast<std::size_t>(c.num_tokens) - 1 - t;
      if (!close_calls.empty() && close_calls[t]) continue;
      const auto begin = a.token_begin[t], count = a.token_begin[t + 1] - begin;
      const auto begin_b = b.token_begin[mirror];
      RC_ASSERT(b.token_begin[mirror + 1] - begin_b == count);
      RC_ASSERT(std::equal(a.expert.begin() + begin, a.expert.begin() + begin + count,
                           b.expert.begin() + begin_b));
      RC_ASSERT(std::equal(a.weight.begin() + begin, a.weight.begin() + begin + count,
                           b.weight.begin() + begin_b));
    }
  });
}

// What a strategy makes of tokens [0, count): as bytes, so that nothing of it goes unseen.
std::vector<float> past_of(const Strategy& strategy, const RoutingCase& c, std::int64_t count) {
  Context context({.threads = 1, .isa = {}});
  std::vector<float> past;
  if (strategy.is_soft()) {
    RouterParams params = c.params;
    params.slots_per_expert = 1;
    SoftRouting routing;
    route_soft(context, strategy, c.input(), params, routing);
    for (std::int64_t s = 0; s < routing.num_slots(); ++s) {
      const auto row = routing.dispatch.begin() + s * c.num_tokens;
      past.insert(past.end(), row, row + count);
    }
    past.insert(past.end(), routing.combine.begin(),
                routing.combine.begin() + count * routing.num_slots());
    return past;
  }
  const Routing routing = route_with(strategy, c);
  for (std::int64_t t = 0; t < count; ++t) {
    past.push_back(-1);
    for (auto a = index(routing.token_begin[index(t)]);
         a < index(routing.token_begin[index(t + 1)]); ++a) {
      past.push_back(static_cast<float>(routing.expert[a]));
      past.push_back(routing.weight[a]);
    }
  }
  return past;
}

// The flag is what is observed: over many cases in which the second half of the tokens gets other
// logits, the first half moves for some case, or for none.
TEST(RoutingProperties, CausalIsWhatChangingTheFutureShows) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    int num_moved = 0;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      for (const Logits kind : {Logits::normal, Logits::ties, Logits::infinities}) {
        const RoutingCase c = make_case(seed, kind, 40, 2, 4, 1);
        const std::int64_t half = c.num_tokens / 2;
        if (strategy.is_soft() && kind == Logits::infinities) continue;  // may leave a slot empty
        RoutingCase other = c;
        const RoutingCase from = make_case(seed + 1000, kind, 40, 2, 4, 1);
        std::copy(from.logits.begin() + half * c.row_stride, from.logits.end(),
                  other.logits.begin() + half * c.row_stride);
        std::copy(from.token_ids.begin() + half, from.token_ids.end(),
                  other.token_ids.begin() + half);
        num_moved += past_of(strategy, c, half) != past_of(strategy, other, half);
      }
    }
    EXPECT_EQ(num_moved == 0, strategy.causal) << strategy.name << " moved " << num_moved;
  }
}

// Nor does their number matter.
TEST(RoutingProperties, CausalStrategiesRouteAPrefixAlike) {
  holds([](const Strategy& strategy, const RoutingCase& c) {
    if (!strategy.causal) return;
    RoutingCase prefix = c;
    prefix.num_tokens = c.num_tokens / 2;
    prefix.token_ids.resize(static_cast<std::size_t>(prefix.num_tokens));
    const Routing whole = route_with(strategy, c), part = route_with(strategy, prefix);
    RC_ASSERT(std::equal(part.expert.begin(), part.expert.end(), whole.expert.begin()));
    RC_ASSERT(std::equal(part.weight.begin(), part.weight.end(), whole.weight.begin()));
  });
}

TEST(RoutingProperties, WeightsSumToWhatIsPromised) {
  holds([](const Strategy& strategy, const RoutingCase& c) {
    const bool scaled = strategy.name == "sigmoid_bias" || strategy.name == "group_limited";
    const double scale = scaled ? c.params.routed_scaling_factor : 1;
    const bool probabilities = strategy.name == "topk_softmax" || scaled;
    const bool of_one = strategy.name == "top1" || strategy.name == "base" ||
                        strategy.name == "expert_choice" ||
                        (strategy.name == "sinkhorn" && c.params.top_k == 1);  // a sigmoid
    const bool sums_to_one = !of_one && (!probabilities || c.params.norm_topk);
    // Sigmoids may sum to K; where all are 0 or +1e-20 counts, they sum to less than 1.
    const bool sigmoid = strategy.name == "sigmoid_bias";
    const Routing routing = route_with(strategy, c);
    for (std::size_t t = 0; t < static_cast<std::size_t>(c.num_tokens); ++t) {
      const auto begin = routing.weight.begin() + routing.token_begin[t];
      const auto end = routing.weight.begin() + routing.token_begin[t + 1];
      const double sum = std::accumulate(begin, end, 0.0);
      RC_ASSERT(std::all_of(begin, end, [](float w) { return w >= 0 && std::isfinite(w); }));
      const double most = scale * (sigmoid && !c.params.norm_topk ? c.params.top_k : 1);
      RC_ASSERT(sum <= most * (1 + weight_tol(c, strategy)));
      if (sums_to_one && !sigmoid) RC_ASSERT(sum >= most * (1 - weight_tol(c, strategy)));
    }
  });
}

TEST(RoutingProperties, NanAndAllMinusInfinityAreErrorsThatNameThePlace) {
  Context context({.threads = 2, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    if (strategy.is_soft()) continue;
    RoutingCase c = make_case(3, Logits::normal, 150, 4, 8, 2);
    const auto expect_error = [&](const std::string& sentence) {
      Routing routing;
      try {
        route(context, strategy, c.input(), c.params, routing);
        ADD_FAILURE() << strategy.name << ": no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
        EXPECT_EQ(error.what(), sentence) << strategy.name;
      }
    };
    float* row = c.logits.data() + 140 * c.row_stride;
    std::fill_n(row, c.num_experts, -std::numeric_limits<float>::infinity());
    expect_error("logits of token 140 are all -inf: expected at least one larger");
    row[31] = std::numeric_limits<float>::quiet_NaN();
    expect_error("logits[token 140, expert 31] is NaN: expected a number or infinity");
    c.logits[static_cast<std::size_t>(20 * c.row_stride + 5)] = -row[31];
    expect_error("logits[token 20, expert 5] is NaN: expected a number or infinity");
  }
}

TEST(RoutingProperties, CloseCallsAreRare) {
  const RoutingCase c = make_case(4, Logits::normal, 500, 8, 16, 0);
  std::vector<bool> close_calls;
  reference_route("sigmoid_bias", c.input(), c.params, &close_calls);
  EXPECT_LE(std::count(close_calls.begin(), close_calls.end(), true), 5);
  for (const char* const strategy : {"sinkhorn", "expert_choice", "noisy_topk"}) {
    reference_route(strategy, c.input(), c.params, &close_calls);
    EXPECT_LE(std::count(close_calls.begin(), close_calls.end(), true), 5) << strategy;
  }
}

}  // namespace
}  // namespace switchyard
