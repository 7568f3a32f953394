#include "workload/trace_routing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <string>

#include "switchyard/error.h"

namespace switchyard {
namespace {

/// Token t takes experts t and t + 1 with weights t + 0.25 and t + 0.5.
Trace counting_trace(int tokens) {
  Trace trace;
  trace.tokens = tokens;
  trace.experts = tokens + 1;
  trace.top_k = 2;
  trace.load.assign(static_cast<std::size_t>(trace.experts), 0);
  for (int t = 0; t < tokens; ++t) {
    for (const int k : {0, 1}) {
      trace.expert.push_back(t + k);
      trace.weight.push_back(static_cast<float>(t) + 0.25f * static_cast<float>(k + 1));
      ++trace.load[static_cast<std::size_t>(t + k)];
    }
  }
  return trace;
}

Trace load_trace(std::vector<std::int64_t> load) {
  Trace trace;
  trace.experts = static_cast<int>(load.size());
  trace.load = std::move(load);
  return trace;
}

WorkloadShape shape_of(std::int64_t tokens, int experts, int top_k) {
  return {.tokens = tokens, .hidden = 1, .experts = experts, .top_k = top_k};
}

Context one_thread() { return Context({.threads = 1, .isa = {}}); }

TEST(TraceRouting, DrawZeroBeginsAtTokenZeroAndWrapsAround) {
  Context context = one_thread();
  const Trace trace = counting_trace(3);
  const Routing routing = routing_of(context, trace, shape_of(7, 5, 2), 17, 0);
  EXPECT_EQ(routing.num_tokens, 7);
  EXPECT_EQ(routing.num_experts, 5);
  EXPECT_EQ(routing.token_begin, (std::vector<std::int64_t>{0, 2, 4, 6, 8, 10, 12, 14}));
  for (std::size_t t = 0; t < 7; ++t) {
    EXPECT_EQ(routing.expert[2 * t], static_cast<int>(t % 3));
    EXPECT_EQ(routing.weight[2 * t + 1], static_cast<float>(t % 3) + 0.5f);
  }
}

TEST(TraceRouting, EveryDrawBeginsElsewhereUntilAllTokensHaveBeenFirst) {
  Context context = one_thread();
  for (const int tokens : {1, 2, 3, 4, 10, 64, 97}) {
    const Trace trace = counting_trace(tokens);
    std::set<int> first;
    for (int draw = 0; draw < tokens; ++draw) {
      first.insert(routing_of(context, trace, shape_of(1, tokens + 1, 2), 17, draw).expert[0]);
    }
    EXPECT_EQ(static_cast<int>(first.size()), tokens);
  }
}

TEST(TraceRouting, WeightsThatWereNotRecordedAreOneOverK) {
  Context context = one_thread();
  Trace trace = counting_trace(3);
  trace.weight.clear();
  for (const float w : routing_of(context, trace, shape_of(5, 4, 2), 17, 0).weight) {
    EXPECT_EQ(w, 0.5f);
  }
}

TEST(TraceRouting, AShapeThatDoesNotFitIsAnErrorThatSaysBothSizes) {
  Context context = one_thread();
  const auto expect = [&](const Trace& trace, const WorkloadShape& shape, std::string_view piece) {
    try {
      routing_of(context, trace, shape, 17, 0);
      ADD_FAILURE() << piece;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(std::string(error.what()).find(piece), std::string::npos) << error.what();
    }
  };
  expect(counting_trace(7), shape_of(4, 4, 2), "8 experts: expected at most the 4");
  expect(counting_trace(7), shape_of(4, 8, 3), "2 experts per token: expected the top_k of 3");
  expect(counting_trace(7), shape_of(-1, 8, 2), "tokens is -1");
  expect(load_trace({1, 0, 1}), shape_of(4, 8, 3), "2 experts with load");
  expect(load_trace({0, 0}), shape_of(4, 8, 1), "0 experts with load");
  expect(load_trace({1, 2}), shape_of(4, 8, 0), "top_k of 0");
}

TEST(TraceRouting, DrawnTokensReproduceTheRecordedLoad) {
  Context context({.threads = 2, .isa = {}});
  const Trace trace = load_trace({500, 1, 0, 300, 100, 99, 250, 250});
  constexpr std::int64_t kTokens = 50000;
  const Routing routing = routing_of(context, trace, shape_of(kTokens, 8, 3), 17, 0);
  std::vector<double> load(8, 0.0);
  for (const auto e : routing.expert) ++load[static_cast<std::size_t>(e)];
  for (std::size_t e = 0; e < 8; ++e) {
    const double expected = 3.0 * kTokens * static_cast<double>(trace.load[e]) / 1500;
    EXPECT_NEAR(load[e], expected, 5 * std::sqrt(expected)) << e;
  }
  EXPECT_EQ(load[2], 0);
}

TEST(TraceRouting, DrawnTokensAreTheSameOnAnyThreadCountAndDifferByDrawAndSeed) {
  const Trace trace = load_trace({5, 4, 3, 2, 1, 9, 7});
  const auto draw = [&](int threads, std::uint64_t seed, std::uint64_t n) {
    Context context({.threads = threads, .isa = {}});
    return routing_of(context, trace, shape_of(1001, 7, 3), seed, n).expert;
  };
  const auto one = draw(1, 17, 0);
  EXPECT_EQ(one, draw(3, 17, 0));
  EXPECT_EQ(one, draw(8, 17, 0));
  EXPECT_NE(one, draw(1, 17, 1));
  EXPECT_NE(one, draw(1, 18, 0));
}

// For any loads and K: exactly K distinct experts each, none without load, a valid Routing.
TEST(TraceRouting, DrawnTokensAreAlwaysComplete) {
  const bool ok = rc::check("complete", [] {
    const auto load = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::int64_t>>(
        rc::gen::weightedOneOf<std::int64_t>({{1, rc::gen::just<std::int64_t>(0)},
                                              {3, rc::gen::inRange<std::int64_t>(1, 10)},
                                              {1, rc::gen::just(std::int64_t{1} << 46)}})));
    const auto active = static_cast<int>(load.size()) -
                        static_cast<int>(std::count(load.begin(), load.end(), std::int64_t{0}));
    RC_PRE(active > 0);
    const int top_k = *rc::gen::inRange(1, active + 1);
    Context context({.threads = 1, .isa = {}});
    const Trace trace = load_trace(load);
    const Routing routing = routing_of(context, trace, shape_of(50, trace.experts, top_k), 17, 0);
    for (std::int64_t t = 0; t < 50; ++t) {
      const auto* const begin = routing.expert.data() + t * top_k;
      const std::set<std::int32_t> ids(begin, begin + top_k);
      RC_ASSERT(static_cast<int>(ids.size()) == top_k);
      for (const auto e : ids) RC_ASSERT(load[static_cast<std::size_t>(e)] > 0);
    }
    const auto p = inclusion_probabilities(trace.load, top_k);
    RC_ASSERT(std::abs(std::accumulate(p.begin(), p.end(), 0.0) - top_k) < 1e-9);
    for (const double x : p) RC_ASSERT(x >= 0 && x <= 1 + 1e-12);
  });
  EXPECT_TRUE(ok);
}

TEST(TraceRouting, NotesSayHowTokensBecomeTheShape) {
  const Trace trace = counting_trace(4);
  EXPECT_TRUE(notes_on(trace, shape_of(4, 8, 2)).empty());
  EXPECT_EQ(notes_on(trace, shape_of(8, 8, 2)),
            std::vector<std::string>{"trace has 4 tokens: repeated 2 times to 8"});
  EXPECT_EQ(notes_on(trace, shape_of(3, 8, 2)),
            std::vector<std::string>{"trace has 4 tokens: each draw takes 3 in a row"});
  EXPECT_TRUE(notes_on(load_trace({1, 1, 1}), shape_of(3, 8, 1)).empty());
  const auto capped = notes_on(load_trace({9, 1, 1}), shape_of(3, 8, 2));
  ASSERT_EQ(capped.size(), 1u);
  EXPECT_NE(capped[0].find("1 experts have more than 1/2"), std::string::npos);
}

class TraceFile : public testing::Test {
 protected:
  TraceFile() {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / "a:b.jsonl") << "{\"layer\":3,\"topk_ids\":[0,1]}\n"
                                            "{\"layer\":4,\"topk_ids\":[1,0]}\n";
  }
  ~TraceFile() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / fmt::format("switchyard_trace_{}", getpid());
};

TEST_F(TraceFile, IsASourceOfRoutingWithAColonInItsName) {
  const std::string text = fmt::format("trace:{}", (folder_ / "a:b.jsonl").string());
  Context context = one_thread();
  const auto first = RoutingSource::parse(text);
  EXPECT_FALSE(first.gives_logits());
  EXPECT_EQ(first.trace()->layer, "3");
  EXPECT_EQ(first.routing(context, shape_of(1, 2, 2), 17, 0).expert,
            (std::vector<std::int32_t>{0, 1}));
  EXPECT_GE(first.notes(shape_of(2, 2, 2)).size(), 2u);
  EXPECT_EQ(RoutingSource::parse(fmt::format("{}:4", text)).trace()->layer, "4");
  EXPECT_THROW(RoutingSource::parse(fmt::format("{}:5", text)), Error);
  EXPECT_THROW(RoutingSource::parse(fmt::format("{}:", text)), Error);
  EXPECT_THROW(RoutingSource::parse("trace:"), Error);
  EXPECT_THROW(RoutingSource::parse("trace:/nonexistent"), Error);
  std::vector<float> logits(2);
  EXPECT_THROW(first.logits(context, shape_of(1, 2, 2), 17, 0, logits), Error);
  const auto uniform = RoutingSource::parse("uniform");
  EXPECT_TRUE(uniform.gives_logits());
  EXPECT_EQ(uniform.trace(), nullptr);
  EXPECT_THROW(uniform.routing(context, shape_of(1, 2, 2), 17, 0), Error);
}

}  // namespace
}  // namespace switchyard
