#include "bench/weight_cache.h"

#include <gtest/gtest.h>

#include "bench/memory.h"
#include "bench/target.h"

namespace switchyard {
namespace {

constexpr std::int64_t kPlenty = std::int64_t{1} << 40;

Cell small_cell(std::string_view impl = "grouped") {
  Cell cell;
  cell.bench = "experts";
  cell.impl = impl;
  cell.threads = 2;
  cell.tokens = 9;
  cell.hidden = 64;
  cell.ffn = 32;
  cell.experts = 4;
  cell.top_k = cell.router.top_k = 2;
  return cell;
}

Cell int4_cell() {
  Cell cell = small_cell();
  cell.weights = {DType::bf16, QuantFormat::int4};
  cell.quant.format = QuantFormat::int4;
  return cell;
}

class WeightCacheTest : public ::testing::Test {
 protected:
  void keep_for(const Cell& cell) { cache_.keep_for({&cell, 1}); }

  Context context_{{.threads = 2, .isa = {}}};
  WeightCache cache_;
};

TEST_F(WeightCacheTest, KeepsWhatOtherTokensAndRoutingLeaveAsItIs) {
  Cell cell = small_cell();
  keep_for(cell);
  const auto raw = cache_.raw(context_, cell);
  const auto experts = cache_.experts(context_, cell);
  EXPECT_EQ(cache_.bytes(), raw->bytes() + experts->weight_bytes());
  EXPECT_EQ(cache_.bytes_of("grouped"), experts->weight_bytes());
  cell.tokens = 100;
  cell.routing = "zipf:1";
  cell.layout = Layout::fused;
  cell.top_k = 1;
  keep_for(cell);
  EXPECT_EQ(cache_.raw(context_, cell), raw);
  EXPECT_EQ(cache_.experts(context_, cell), experts);
}

TEST_F(WeightCacheTest, LetsGoOfOtherWeightsBeforeAnythingIsMade) {
  const std::function<void(Cell&)> changes[] = {
      [](Cell& c) { c.seed = 18; },
      [](Cell& c) { c.hidden = 32; },
      [](Cell& c) { c.ffn = 64; },
      [](Cell& c) { c.experts = 3; },
      [](Cell& c) { c.dtype = DType::f32; },
      [](Cell& c) { c.weights.dtype = DType::f32; },
      [](Cell& c) { c.weights.quant = QuantFormat::int8; },
      [](Cell& c) { c.gated = false; },
      [](Cell& c) { c.activation = Activation::relu; },
      [](Cell& c) { c.threads = 1; },
  };
  for (const auto& change : changes) {
    Cell cell = small_cell();
    keep_for(cell);
    cache_.experts(context_, cell);
    change(cell);
    keep_for(cell);
    EXPECT_EQ(cache_.bytes(), 0);
    EXPECT_EQ(cache_.bytes_of("grouped"), 0);
  }
}

TEST_F(WeightCacheTest, LetsGoOfImplementationsThatAreNotMeasured) {
  const Cell cells[] = {small_cell("grouped"), small_cell("block")};
  cache_.keep_for(cells);
  for (const Cell& cell : cells) cache_.experts(context_, cell);
  keep_for(cells[1]);
  EXPECT_EQ(cache_.bytes_of("grouped"), 0);
  EXPECT_GT(cache_.bytes_of("block"), 0);
  cache_.keep_for({});
  EXPECT_EQ(cache_.bytes(), 0);
}

TEST_F(WeightCacheTest, HoldsIntegersWhereThereIsRoom) {
  const Cell cell = int4_cell();
  keep_for(cell);
  EXPECT_EQ(cache_.raw(context_, cell)->bytes(), 0) << "nothing to spare yet";
  keep_for(small_cell());
  keep_for(cell);
  cache_.set_spare(kPlenty);
  const auto raw = cache_.raw(context_, cell);
  EXPECT_GT(raw->spare_bytes(), 0);
  cache_.set_spare(raw->spare_bytes());
  EXPECT_EQ(cache_.raw(context_, cell), raw);
  cache_.set_spare(raw->spare_bytes() - 1);
  EXPECT_EQ(cache_.bytes(), 0);
}

/// What measuring cannot change.
Record figures_of(Record record) {
  for (const char* field : {"samples_ms", "median_ms", "mean_ms", "std_ms", "min_ms", "p05_ms",
                            "p95_ms", "p99_ms", "ci95_low_ms", "ci95_high_ms", "tokens_per_s",
                            "tflops", "fraction_of_limit", "timestamp", "peak_rss_bytes"}) {
    record.erase(field);
  }
  return record;
}

TEST_F(WeightCacheTest, RecordsAreThoseOfFreshWeights) {
  constexpr RunOptions kQuick = {.warmup = 0, .iters = 1, .cold = false};
  for (const Cell& first : {small_cell(), int4_cell()}) {
    WeightCache kept;
    for (const std::int64_t tokens : {1, 40, 7}) {
      Cell cell = first;
      cell.tokens = tokens;
      const auto measured = [&](WeightCache& weights) {
        return figures_of(
            find_target("experts").run({&cell, 1}, kQuick, {}, weights, [] { return false; })[0]);
      };
      WeightCache fresh;
      const Record record = measured(kept);
      EXPECT_TRUE(record["ok"].get<bool>()) << record.dump();
      EXPECT_EQ(record, measured(fresh));
    }
    EXPECT_GT(kept.bytes(), 0);
  }
}

}  // namespace
}  // namespace switchyard
