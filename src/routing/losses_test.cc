#include "switchyard/losses.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "routing/routing_cases.h"
#include "switchyard/error.h"
#include "switchyard/load.h"

namespace switchyard {
namespace {

constexpr double kTol = 1e-12;

// The formulas, once more, with plain loops over vectors.
using Row = std::vector<double>;

Row probabilities(Row x, Affinity affinity) {
  const double max = *std::max_element(x.begin(), x.end());
  for (double& v : x) {
    if (affinity == Affinity::softmax) v = v == max ? 1 : std::exp(v - max);
    if (affinity == Affinity::sigmoid) v = 1 / (1 + std::exp(-v));
  }
  const double sum = std::accumulate(x.begin(), x.end(), 0.0);
  for (double& v : x) v /= sum;
  return x;
}

Row token_of(ConstMatrixView logits, std::int64_t t) {
  const auto* x = reinterpret_cast<const float*>(logits.row(t));
  return Row(x, x + logits.cols);
}

double reference_z(ConstMatrixView logits) {
  double sum = 0;
  for (std::int64_t t = 0; t < logits.rows; ++t) {
    const Row x = token_of(logits, t);
    const double max = *std::max_element(x.begin(), x.end());
    double total = 0;
    for (const double v : x) total += std::exp(v - max);
    sum += std::pow(max + std::log(total), 2);
  }
  return logits.rows == 0 ? 0 : sum / static_cast<double>(logits.rows);
}

double reference_balance(ConstMatrixView logits, const Routing& routing, Affinity affinity,
                         std::int64_t begin, std::int64_t end) {
  Row f(static_cast<std::size_t>(logits.cols)), p = f;
  for (std::int64_t t = begin; t < end; ++t) {
    const auto i = static_cast<std::size_t>(t);
    for (std::int64_t a = routing.token_begin[i]; a < routing.token_begin[i + 1]; ++a) {
      f[static_cast<std::size_t>(routing.expert[static_cast<std::size_t>(a)])] += 1;
    }
    const Row probability = probabilities(token_of(logits, t), affinity);
    for (std::size_t e = 0; e < p.size(); ++e) p[e] += probability[e];
  }
  const double all = std::accumulate(f.begin(), f.end(), 0.0);
  return static_cast<double>(logits.cols) * std::inner_product(f.begin(), f.end(), p.begin(), 0.0) /
         all / static_cast<double>(end - begin);
}

Routing routing_of(const RoutingCase& c, std::string_view strategy = "topk_softmax") {
  Context context({.threads = 1, .isa = {}});
  Routing routing;
  route(context, StrategyRegistry::builtin().find(strategy), c.input(), c.params, routing);
  return routing;
}

RoutingCase some_case(Logits kind, std::int64_t num_tokens, int num_experts, int top_k) {
  RoutingCase c = make_case(7, kind, num_tokens, 1, num_experts, 3);
  c.params.top_k = top_k;
  return c;
}

bool near(double value, double expected) {
  return std::fabs(value - expected) <= kTol * std::max(1.0, std::fabs(expected));
}

TEST(Losses, AreTheFormulas) {
  EXPECT_TRUE(rc::check([] {
    const auto kind = *rc::gen::element(Logits::normal, Logits::ties, Logits::zeros);
    const auto tokens = *rc::gen::element<std::int64_t>(1, 2, 255, 256, 257, 700);
    const RoutingCase c = make_case(*rc::gen::arbitrary<std::uint64_t>(), kind, tokens, 1,
                                    *rc::gen::inRange(1, 40), *rc::gen::element(0, 5));
    const Routing routing = routing_of(c);
    const ConstMatrixView logits = c.input().logits;
    const auto length = *rc::gen::inRange<std::int64_t>(1, 300);
    Context context({.threads = 2, .isa = {}});
    RC_ASSERT(near(z_loss(context, logits, 0.5), 0.5 * reference_z(logits)));
    for (const Affinity affinity : {Affinity::softmax, Affinity::sigmoid}) {
      RC_ASSERT(near(balance_loss(context, logits, routing, affinity, 3),
                     3 * reference_balance(logits, routing, affinity, 0, tokens)));
      double sum = 0;
      int sequences = 0;
      for (std::int64_t t = 0; t < tokens; t += length, ++sequences) {
        sum += reference_balance(logits, routing, affinity, t, std::min(tokens, t + length));
      }
      RC_ASSERT(near(sequence_balance_loss(context, logits, routing, affinity, length, 2),
                     2 * sum / sequences));
    }
  }));
}

TEST(Losses, ThreadsDoNotChangeBits) {
  const RoutingCase c = some_case(Logits::normal, 1500, 37, 3);
  const Routing routing = routing_of(c);
  const ConstMatrixView logits = c.input().logits;
  Context one({.threads = 1, .isa = {}}), three({.threads = 3, .isa = {}});
  EXPECT_EQ(z_loss(one, logits, 1), z_loss(three, logits, 1));
  EXPECT_EQ(balance_loss(one, logits, routing, Affinity::sigmoid, 1),
            balance_loss(three, logits, routing, Affinity::sigmoid, 1));
  EXPECT_EQ(sequence_balance_loss(one, logits, routing, Affinity::softmax, 100, 1),
            sequence_balance_loss(three, logits, routing, Affinity::softmax, 100, 1));
}

TEST(Losses, UniformLogitsCostTheCoefficient) {
  for (const int experts : {8, 64}) {
    const RoutingCase c = some_case(Logits::equal, 512, experts, 2);
    const Routing routing = routing_of(c);  // every token to experts 0 and 1: f is not uniform
    Context context({.threads = 2, .isa = {}});
    for (const Affinity affinity : {Affinity::softmax, Affinity::sigmoid}) {
      EXPECT_EQ(balance_loss(context, c.input().logits, routing, affinity, 0.01), 0.01);
      EXPECT_EQ(sequence_balance_loss(context, c.input().logits, routing, affinity, 128, 0.01),
                0.01);
    }
    const double log_sum = 1.25 + std::log(experts);
    EXPECT_NEAR(z_loss(context, c.input().logits, 1), log_sum * log_sum, kTol);
  }
}

TEST(Losses, BalanceIsWithinItsBounds) {
  EXPECT_TRUE(rc::check([] {
    const auto kind = static_cast<Logits>(*rc::gen::inRange(0, static_cast<int>(Logits::count)));
    const RoutingCase c =
        make_case(*rc::gen::arbitrary<std::uint64_t>(), kind, 40, 1, *rc::gen::inRange(1, 20), 0);
    const Routing routing = routing_of(c);
    Context context({.threads = 1, .isa = {}});
    const double most = static_cast<double>(c.num_experts) / c.params.top_k;
    for (const Affinity affinity : {Affinity::softmax, Affinity::sigmoid}) {
      const double loss = balance_loss(context, c.input().logits, routing, affinity, 1);
      RC_ASSERT(loss >= 0 && loss <= most * (1 + kTol));
      const double sequence =
          sequence_balance_loss(context, c.input().logits, routing, affinity, 7, 1);
      RC_ASSERT(sequence >= 0 && sequence <= most * (1 + kTol));
    }
    RC_ASSERT(z_loss(context, c.input().logits, 1) >= 0);
  }));
}

TEST(Losses, ACollapsedRouterCostsTheMost) {
  std::vector<float> logits(4 * 8, -200.0f);
  for (std::size_t t = 0; t < 4; ++t) logits[t * 8 + 5] = 200.0f;
  const ConstMatrixView view = matrix(logits.data(), 4, 8);
  Context context({.threads = 1, .isa = {}});
  Routing routing;
  route(context, StrategyRegistry::builtin().find("top1"), {view, {}, {}}, {}, routing);
  EXPECT_EQ(balance_loss(context, view, routing, Affinity::softmax, 1), 8);
  EXPECT_EQ(balance_loss(context, view, routing, Affinity::sigmoid, 1), 8);
  EXPECT_EQ(z_loss(context, view, 1), 40000);
}

TEST(Losses, SigmoidsTooSmallForAFloatStillHaveShares) {
  const std::vector<float> logits = {-2000.0f, -2000.0f, -2001.0f};
  const ConstMatrixView view = matrix(logits.data(), 1, 3);
  Routing routing{1, 3, {0, 1}, {2}, {1.0f}};
  Context context({.threads = 1, .isa = {}});
  const double share = std::exp(-1.0) / (2 + std::exp(-1.0));
  EXPECT_NEAR(balance_loss(context, view, routing, Affinity::sigmoid, 1), 3 * share, kTol);
}

TEST(Losses, InfinitiesFollowTheRuleOfRoute) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {kInf, 0.0f, -kInf, kInf};
  const ConstMatrixView view = matrix(logits.data(), 1, 4);
  Routing routing{1, 4, {0, 1}, {0}, {1.0f}};
  Context context({.threads = 1, .isa = {}});
  EXPECT_EQ(balance_loss(context, view, routing, Affinity::softmax, 1), 2);  // 4 * 1 * 1/2
  EXPECT_EQ(balance_loss(context, view, routing, Affinity::sigmoid, 1), 4 * 1 / 2.5);
  EXPECT_EQ(z_loss(context, view, 1), std::numeric_limits<double>::infinity());
}

TEST(Losses, RefuseWhatDoesNotFit) {
  const RoutingCase c = some_case(Logits::normal, 20, 6, 2);
  const Routing routing = routing_of(c);
  Context context({.threads = 2, .isa = {}});
  std::vector<float> other(19 * 6), bad(20 * 6);
  EXPECT_THROW(balance_loss(context, matrix(other.data(), 19, 6), routing, Affinity::softmax, 1),
               Error);
  EXPECT_THROW(sequence_balance_loss(context, c.input().logits, routing, Affinity::softmax, 0, 1),
               Error);
  bad[7] = std::nanf("");
  const ConstMatrixView nan = matrix(bad.data(), 20, 6);
  EXPECT_THROW(z_loss(context, nan, 1), Error);
  EXPECT_THROW(balance_loss(context, nan, routing, Affinity::sigmoid, 1), Error);
  EXPECT_THROW(sequence_balance_loss(context, nan, routing, Affinity::softmax, 4, 1), Error);
}

TEST(Losses, NoTokensCostNothing) {
  Context context({.threads = 1, .isa = {}});
  const ConstMatrixView none = matrix(static_cast<const float*>(nullptr), 0, 4);
  const Routing routing{0, 4, {0}, {}, {}};
  EXPECT_EQ(z_loss(context, none, 1), 0);
  EXPECT_EQ(balance_loss(context, none, routing, Affinity::softmax, 1), 0);
  EXPECT_EQ(sequence_balance_loss(context, none, routing, Affinity::softmax, 8, 1), 0);
}

TEST(Losses, TheBiasUpdateIsItsFormula) {
  std::vector<float> bias = {0.5f, 0.0f, -1.0f, 2.0f};
  const std::vector<std::int64_t> assigned = {10, 2, 6, 6};  // mean 6
  update_bias(bias, assigned, 0.25f);
  EXPECT_EQ(bias, (std::vector<float>{0.25f, 0.25f, -1.0f, 2.0f}));
  EXPECT_THROW(update_bias(bias, std::vector<std::int64_t>{1, 2}, 0.1f), Error);
  EXPECT_THROW(update_bias(bias, std::vector<std::int64_t>{1, 2, -1, 2}, 0.1f), Error);
  EXPECT_THROW(update_bias(bias, assigned, std::nanf("")), Error);
}

TEST(Losses, TheBiasUpdateEvensASkewedStream) {
  constexpr std::int64_t kTokens = 256;
  constexpr int kExperts = 16, kSteps = 100, kHot = 3;
  const Strategy strategy = StrategyRegistry::builtin().find("sigmoid_bias");
  Context context({.threads = 1, .isa = {}});
  std::vector<float> bias(kExperts), logits(kTokens * kExperts);
  std::vector<double> max_vio;
  Routing routing;
  for (int step = 0; step < kSteps; ++step) {
    const Philox random(17, static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < logits.size(); ++i) {
      logits[i] = random.normal(i) + (i % kExperts < kHot ? 2.0f : 0.0f);
    }
    route(context, strategy, {matrix(logits.data(), kTokens, kExperts), bias, {}}, {.top_k = 2},
          routing);
    std::vector<std::int64_t> assigned(kExperts);
    for (const std::int32_t e : routing.expert) ++assigned[static_cast<std::size_t>(e)];
    max_vio.push_back(load_stats(assigned).max_vio);
    update_bias(bias, assigned, 0.02f);
  }
  const double last = std::accumulate(max_vio.end() - 20, max_vio.end(), 0.0) / 20;
  EXPECT_GT(max_vio.front(), 2.5);
  EXPECT_LT(last, 0.5);  // noise of 32 assignments per expert, and steps of one size
}

}  // namespace
}  // namespace switchyard
