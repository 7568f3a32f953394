#include "bench/measure.h"

#include <gtest/gtest.h>

#include <string>

#include "bench/memory.h"
#include "bench/weight_cache.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

/// What happened, in order: the measurement's functions are plain pointers.
std::string* g_events = nullptr;

/// "a", "b": fine; "wrong": fails its check; "throws": cannot be built; "breaks": throws in its
/// second sample.
class Fake final : public Subject {
 public:
  explicit Fake(const Cell& cell) : impl_(cell.impl) {
    if (impl_ == "throws") throw Error(ErrorCode::unavailable, "cannot be built");
  }

  Check check() override { return {.rel_err = impl_ == "wrong" ? 0.5 : 1e-4, .tol = 1e-3}; }

  void prepare(std::int64_t i) override { sample_ = i; }

  void run() override {
    if (impl_ == "breaks" && sample_ == 1) throw Error(ErrorCode::io, "broke");
    if (sample_ >= 0) *g_events += impl_;
    stage_.value = static_cast<double>(sample_);
  }

  std::span<const Stage> stages() const override { return {&stage_, 1}; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = "portable";
    record["limit_ms"] = ceilings.read_bw > 0 ? 1e9 / ceilings.read_bw : 1.0;
  }

 private:
  std::string impl_;
  std::int64_t sample_ = 0;
  Stage stage_{"t_select_ms"};
};

double g_own_bytes = 0;

Cost fake_cost(const Cell&, const ExpectedLoad&) { return {.own_bytes = g_own_bytes}; }

MakeSubject prepare_fakes(Context&, const Cell&, const RoutingSource&, WeightCache&) {
  *g_events += "|";
  return [](const Cell& cell) { return std::make_unique<Fake>(cell); };
}

constexpr Measurement kFakes = {.cost = fake_cost, .prepare = prepare_fakes, .not_applicable = {}};

class MeasureTest : public ::testing::Test {
 protected:
  MeasureTest() {
    g_events = &events_;
    g_own_bytes = 0;
  }

  std::vector<Record> measure_fakes(const std::vector<std::string>& impls, bool cold = false) {
    std::vector<Cell> cells;
    for (const std::string& impl : impls) {
      Cell& cell = cells.emplace_back();
      cell.impl = impl;
      cell.threads = 1;
      cell.tokens = 4;
      cell.router.top_k = cell.top_k;
    }
    WeightCache weights;
    return measure(kFakes, cells, {.warmup = 2, .iters = 3, .cold = cold}, {}, weights,
                   [] { return false; });
  }

  std::string events_;
};

TEST_F(MeasureTest, InterleavesSamples) {
  const auto records = measure_fakes({"a", "b"});
  EXPECT_EQ(events_, "|ababab");
  for (const Record& record : records) {
    EXPECT_TRUE(record["ok"].get<bool>());
    EXPECT_EQ(record["samples_ms"].size(), 3u);
    EXPECT_EQ(record["t_select_ms"], 1.0) << "the median of samples 0, 1, 2 without warm-up";
    EXPECT_GT(record["fraction_of_limit"].get<double>(), 0);
    EXPECT_FALSE(record.contains("best_limit_ms")) << "no ceiling is measured between warm samples";
  }
}

TEST_F(MeasureTest, TheFastestSampleStandsBesideTheHighestCeilings) {
  const Record record = measure_fakes({"a"}, true)[0];
  const double best = record["best_limit_ms"].get<double>();
  EXPECT_GT(best, 0);
  EXPECT_LE(best, record["limit_ms"].get<double>());
  EXPECT_EQ(record["best_fraction_of_limit"], best / record["min_ms"].get<double>());
}

TEST_F(MeasureTest, AWrongOutputHasAnErrorAndNoTime) {
  const auto records = measure_fakes({"wrong", "a"});
  EXPECT_EQ(events_, "|aaa");
  EXPECT_FALSE(records[0]["ok"].get<bool>());
  EXPECT_EQ(records[0]["error_code"], "check_failed");
  EXPECT_EQ(records[0]["check_rel_err"], 0.5);
  EXPECT_EQ(records[0]["check_tol"], 1e-3);
  for (const char* field : {"samples_ms", "median_ms", "tokens_per_s", "limit_ms"}) {
    EXPECT_FALSE(records[0].contains(field)) << field;
  }
  EXPECT_TRUE(records[1]["ok"].get<bool>());
}

TEST_F(MeasureTest, OneFailureLeavesTheOthersAlone) {
  const auto records = measure_fakes({"throws", "breaks", "a"});
  EXPECT_EQ(records[0]["error"], "cannot be built");
  EXPECT_EQ(records[0]["error_code"], "unavailable");
  EXPECT_EQ(records[1]["error"], "broke");
  EXPECT_EQ(records[1]["error_code"], "io");
  EXPECT_FALSE(records[1].contains("median_ms"));
  EXPECT_TRUE(records[2]["ok"].get<bool>());
  EXPECT_EQ(records[2]["samples_ms"].size(), 3u);
}

TEST_F(MeasureTest, ImplementationsThatOnlyFitAloneAreMeasuredAlone) {
  g_own_bytes = 0.6 * static_cast<double>(available_memory().bytes);
  const auto records = measure_fakes({"a", "b"});
  EXPECT_EQ(events_, "|aaa|bbb");
  for (const Record& record : records) EXPECT_TRUE(record["ok"].get<bool>());
}

TEST_F(MeasureTest, WhatDoesNotFitIsRefusedBeforeAnythingIsBuilt) {
  g_own_bytes = 1e18;
  const auto records = measure_fakes({"a", "b"});
  EXPECT_EQ(events_, "");
  for (const Record& record : records) {
    EXPECT_FALSE(record["ok"].get<bool>());
    EXPECT_EQ(record["error_code"], "out_of_memory");
  }
}

}  // namespace
}  // namespace switchyard
