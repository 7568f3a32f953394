#include "workload/source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "switchyard/dtype.h"
#include "switchyard/error.h"
#include "workload/gate.h"

namespace switchyard {
namespace {

std::vector<float> draw_logits(std::string_view text, const WorkloadShape& shape, int threads = 2,
                               std::uint64_t seed = 17, std::uint64_t draw = 0) {
  Context context({.threads = threads, .isa = {}});
  std::vector<float> out(static_cast<std::size_t>(shape.tokens * shape.experts));
  RoutingSource::parse(text).logits(context, shape, seed, draw, out);
  return out;
}

/// How often each expert is among a token's K largest, falling.
std::vector<double> load_of(const std::vector<float>& logits, int experts, int top_k) {
  std::vector<double> load(experts, 0.0);
  std::vector<int> ids(experts);
  for (std::size_t t = 0; t < logits.size() / experts; ++t) {
    const float* const row = logits.data() + t * experts;
    std::iota(ids.begin(), ids.end(), 0);
    std::partial_sort(ids.begin(), ids.begin() + top_k, ids.end(),
                      [&](int a, int b) { return row[a] > row[b]; });
    for (int k = 0; k < top_k; ++k) ++load[ids[k]];
  }
  return load;
}

const WorkloadShape kShape = {.tokens = 20000, .hidden = 32, .experts = 16, .top_k = 2};

void expect_error(std::string_view text, std::string_view piece) {
  try {
    RoutingSource::parse(text);
    ADD_FAILURE() << text << " was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(piece), std::string::npos) << error.what();
  }
}

TEST(RoutingSource, ErrorsNameThePiece) {
  expect_error("", "expected one of uniform");
  expect_error("unifrom", "did you mean uniform?");
  expect_error("uniform:3", "'uniform' alone");
  expect_error("gate:1", "'gate' alone");
  expect_error("zipf", "S is ''");
  expect_error("zipf:-1", "S is '-1'");
  expect_error("zipf:nan", "S is 'nan'");
  expect_error("zipf:inf", "S is 'inf'");
  expect_error("zipf:1.0x", "S is '1.0x'");
  expect_error("skew:0:1", "N is '0'");
  expect_error("skew:-3:1", "N is '-3'");
  expect_error("skew:two:1", "N is 'two'");
  expect_error("skew:99999999999:1", "N is '99999999999'");
  expect_error("skew:2", "BIAS is ''");
  expect_error("skew:2:nan", "BIAS is 'nan'");
  expect_error("skew:2:1:3", "BIAS is '1:3'");
}

TEST(RoutingSource, TextIsKept) {
  EXPECT_EQ(RoutingSource::parse("skew:2:1.5").text(), "skew:2:1.5");
}

TEST(RoutingSource, SizesThatDoNotFitAreRefused) {
  Context context({.threads = 1, .isa = {}});
  std::vector<float> out(12);
  const auto uniform = RoutingSource::parse("uniform");
  EXPECT_THROW(uniform.logits(context, {.tokens = 2, .experts = 4}, 1, 0, out), Error);
  EXPECT_THROW(uniform.logits(context, {.tokens = -2, .experts = -6}, 1, 0, out), Error);
  EXPECT_THROW(uniform.logits(context, {.tokens = 12, .experts = 0}, 1, 0, out), Error);
  const auto skew = RoutingSource::parse("skew:5:1");
  EXPECT_THROW(skew.logits(context, {.tokens = 3, .experts = 4}, 1, 0, out), Error);
  const auto gate = RoutingSource::parse("gate");
  EXPECT_THROW(gate.logits(context, {.tokens = 3, .experts = 4}, 1, 0, out), Error) << "no hidden";
  uniform.logits(context, {.tokens = 0, .experts = 4}, 1, 0, {});
}

TEST(RoutingSource, SameSeedSameBitsWhateverTheThreads) {
  const WorkloadShape shape = {.tokens = 1003, .hidden = 37, .experts = 13, .top_k = 2};
  for (const char* text : {"uniform", "zipf:1.2", "skew:3:2", "gate"}) {
    const auto one = draw_logits(text, shape, 1);
    EXPECT_EQ(one, draw_logits(text, shape, 3)) << text;
    EXPECT_EQ(one, draw_logits(text, shape, 8)) << text;
    EXPECT_NE(one, draw_logits(text, shape, 1, 18)) << text << ", another seed";
    EXPECT_NE(one, draw_logits(text, shape, 1, 17, 1)) << text << ", another draw";
    for (const float x : one) ASSERT_TRUE(std::isfinite(x)) << text;
  }
}

TEST(RoutingSource, UniformLoadsExpertsEvenly) {
  const double mean = 20000.0 * 2 / 16;
  for (const double n : load_of(draw_logits("uniform", kShape), 16, 2)) {
    EXPECT_NEAR(n, mean, 5 * std::sqrt(mean));
  }
}

TEST(RoutingSource, ZipfFollowsThePowerLaw) {
  auto load = load_of(draw_logits("zipf:1", kShape), 16, 1);
  std::sort(load.rbegin(), load.rend());
  double harmonic = 0;
  for (int rank = 1; rank <= 16; ++rank) harmonic += 1.0 / rank;
  for (int rank = 1; rank <= 16; ++rank) {
    const double expected = 20000.0 / (rank * harmonic);
    EXPECT_NEAR(load[rank - 1], expected, 5 * std::sqrt(expected)) << rank;
  }
}

TEST(RoutingSource, ZipfKeepsItsHotExpertsAcrossDrawsButNotAcrossSeeds) {
  const auto ranking = [](std::uint64_t seed, std::uint64_t draw) {
    const auto load = load_of(draw_logits("zipf:3", kShape, 1, seed, draw), 16, 1);
    return std::max_element(load.begin(), load.end()) - load.begin();
  };
  EXPECT_EQ(ranking(17, 0), ranking(17, 5));
  std::vector<std::ptrdiff_t> hottest;
  for (std::uint64_t seed = 0; seed < 8; ++seed) hottest.push_back(ranking(seed, 0));
  EXPECT_NE(*std::min_element(hottest.begin(), hottest.end()),
            *std::max_element(hottest.begin(), hottest.end()));
}

TEST(RoutingSource, ExtremesStayUsable) {
  for (const char* text : {"zipf:100", "zipf:0", "skew:16:1e30", "skew:1:-1e30"}) {
    for (const float x : draw_logits(text, kShape)) ASSERT_TRUE(std::isfinite(x)) << text;
  }
}

TEST(RoutingSource, SkewFavoursTheFirstExperts) {
  const auto load = load_of(draw_logits("skew:2:5", kShape), 16, 2);
  EXPECT_GT(load[0] + load[1], 0.9 * 40000);
}

TEST(Gate, LogitsAreTheProductOfItsHiddenStatesAndItsRouter) {
  const WorkloadShape shape = {.tokens = 21, .hidden = 45, .experts = 6, .top_k = 2};
  Context context({.threads = 2, .isa = {}});
  std::vector<float> x(21 * 45), router(6 * 45);
  fill_gate_hidden(context, matrix(x.data(), 21, 45), 17, 3);
  fill_gate_router(context, matrix(router.data(), 6, 45), 17);
  const auto logits = draw_logits("gate", shape, 2, 17, 3);
  for (int t = 0; t < 21; ++t) {
    for (int e = 0; e < 6; ++e) {
      double sum = 0;
      for (int h = 0; h < 45; ++h) sum += double{x[t * 45 + h]} * router[e * 45 + h];
      EXPECT_NEAR(logits[t * 6 + e], sum, 45 * epsilon_of(DType::f32) * 10);
    }
  }
}

TEST(Gate, HiddenStatesHaveUnitVariance) {
  Context context({.threads = 2, .isa = {}});
  std::vector<float> x(2000 * 256);
  fill_gate_hidden(context, matrix(x.data(), 2000, 256), 17, 0);
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  EXPECT_NEAR(squares / static_cast<double>(x.size()), 1.0, 0.15);
}

TEST(Gate, SomeExpertsAreHotterAndRoundingKeepsTheValues) {
  auto load = load_of(draw_logits("gate", kShape), 16, 2);
  std::sort(load.begin(), load.end());
  EXPECT_GT(load.back(), 1.3 * load.front());

  Context context({.threads = 1, .isa = {}});
  std::vector<float> wide(4 * 9);
  std::vector<bf16> narrow(4 * 9);
  fill_gate_router(context, matrix(wide.data(), 4, 9), 5);
  fill_gate_router(context, matrix(narrow.data(), 4, 9), 5);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    EXPECT_EQ(narrow[i].bits, from_float<bf16>(wide[i]).bits);
  }
}

}  // namespace
}  // namespace switchyard
