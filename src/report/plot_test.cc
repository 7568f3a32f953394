#include "report/plot.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/report_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using test::failed_record;
using test::layer_record;

Chart chart_of(const Picture& picture, std::size_t panel = 0) {
  return std::get<Chart>(picture.panels.at(panel).content);
}

std::string error_of(PlotKind kind, const std::vector<Record>& records, PlotOptions options = {}) {
  try {
    picture_of(kind, records, options);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
}

TEST(Plot, ThroughputTurnsTheIntervalOfTheTimeRound) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 4)};
  const Picture picture = picture_of(PlotKind::throughput, records, {});
  const Chart chart = chart_of(picture);
  ASSERT_EQ(chart.series.size(), 1u);
  const Point& point = chart.series[0].points[1];
  EXPECT_EQ(chart.y.label, "tokens per second, thousands");
  EXPECT_DOUBLE_EQ(point.y, 64);
  EXPECT_DOUBLE_EQ(point.interval->low, 64 / 1.1);
  EXPECT_DOUBLE_EQ(point.interval->high, 64 / 0.9);
  EXPECT_EQ(point.record, 1);
}

TEST(Plot, OneValueOfTheAxisGivesBars) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("grouped", 64, 1)};
  const Picture picture = picture_of(PlotKind::throughput, records, {});
  const Bars& bars = std::get<Bars>(picture.panels[0].content);
  ASSERT_EQ(bars.bars.size(), 2u);
  EXPECT_EQ(bars.bars[1].label, "grouped");
  EXPECT_EQ(bars.bars[1].record, 1);
}

TEST(Plot, SaysWhatItLeavesOut) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 4),
                                       failed_record("loop", 1024, "no")};
  EXPECT_NE(picture_of(PlotKind::throughput, records, {}).subtitle.find("left out: 1 failed"),
            std::string::npos);
}

TEST(Plot, LatencyAddsUpToTheMedian) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 20)};
  const Picture picture = picture_of(PlotKind::latency, records, {});
  ASSERT_EQ(picture.panels.size(), 2u) << "parts of the short bar could not be seen";
  const Bars& times = std::get<Bars>(picture.panels[0].content);
  const Bars& shares = std::get<Bars>(picture.panels[1].content);
  ASSERT_EQ(times.parts.size(), 3u);
  EXPECT_EQ(times.parts[0].name, "select");
  EXPECT_EQ(times.parts[2].name, "other");
  double sum = 0, share = 0;
  for (const double part : times.bars[1].parts) sum += part;
  for (const double part : shares.bars[1].parts) share += part;
  EXPECT_NEAR(sum, 20, 1e-9);
  EXPECT_NEAR(share, 100, 1e-9);
}

TEST(Plot, RooflineIsThatOfTheRecords) {
  std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 4)};
  records[1]["limit_kind"] = "compute";
  const Chart chart = chart_of(picture_of(PlotKind::efficiency, records, {}));
  ASSERT_EQ(chart.series.size(), 3u);
  // 64e6 flops of 1e6 bytes in 2 ms.
  EXPECT_DOUBLE_EQ(chart.series[0].points[0].x, 64);
  EXPECT_DOUBLE_EQ(chart.series[0].points[0].y, 32);
  EXPECT_EQ(chart.series[1].name, "memory, 1 GB/s");        // 1e6 bytes in 1 ms
  EXPECT_EQ(chart.series[2].name, "compute, 128 Gflop/s");  // 256e6 flops in 2 ms
  const auto& slope = chart.series[1].points;
  EXPECT_NEAR(slope[1].y / slope[0].y, slope[1].x / slope[0].x, 1e-9);
  EXPECT_DOUBLE_EQ(chart.series[2].points[0].x, 128) << "the roofs meet at the ridge";
}

TEST(Plot, EfficiencyWithoutFlopsIsTheShare) {
  std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 4)};
  for (Record& record : records) record.erase("flops");
  const Chart chart = chart_of(picture_of(PlotKind::efficiency, records, {}));
  EXPECT_EQ(chart.y.label, "of the limit, %");
  EXPECT_DOUBLE_EQ(chart.series[0].points[0].y, 50);
}

TEST(Plot, DropsAreOverTheCapacityFactor) {
  std::vector<Record> records;
  for (const double factor : {0.0, 1.0, 1.5}) {
    records.push_back(layer_record("grouped", 64, 2));
    records.back()["capacity_factor"] = factor;
    records.back()["drop_rate"] = factor > 0 ? 0.3 / factor : 0;
  }
  const Chart chart = chart_of(picture_of(PlotKind::drop, records, {}));
  ASSERT_EQ(chart.series[0].points.size(), 2u) << "factor 0 drops nothing by definition";
  EXPECT_DOUBLE_EQ(chart.series[0].points[0].y, 30);
  EXPECT_DOUBLE_EQ(chart.series[0].points[1].y, 20);
}

TEST(Plot, SpeedupComparesEqualCells) {
  std::vector<Record> records = {layer_record("loop", 64, 4), layer_record("loop", 256, 6),
                                 layer_record("grouped", 64, 2), layer_record("grouped", 256, 2),
                                 layer_record("grouped", 1024, 1)};
  for (std::size_t i = 2; i < 5; ++i) records[i]["isa"] = "amx_bf16";  // follows from impl
  const Chart chart = chart_of(
      picture_of(PlotKind::speedup, records, {.x = {}, .by = {}, .baseline = {{"impl", "loop"}}}));
  ASSERT_EQ(chart.series.size(), 2u);
  ASSERT_EQ(chart.series[0].points.size(), 2u) << "1024 tokens have no baseline";
  EXPECT_DOUBLE_EQ(chart.series[0].points[0].y, 2);
  EXPECT_DOUBLE_EQ(chart.series[0].points[1].y, 3);
  EXPECT_NEAR(chart.series[0].points[1].interval->low, 3 * 0.9 / 1.1, 1e-9);
  EXPECT_EQ(chart.series[1].mark, Mark::guide);
}

TEST(Plot, LoadIsDrawnOncePerDifferentLoad) {
  std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("grouped", 64, 1),
                                 layer_record("loop", 256, 1)};
  for (Record& record : records) record["expert_load"] = {3, 0, 1};
  records[2]["expert_load"] = {2, 2, 2};
  const Picture picture = picture_of(PlotKind::load, records, {});
  ASSERT_EQ(picture.panels.size(), 2u);
  EXPECT_EQ(chart_of(picture).series[0].points[0].y, 3);
}

TEST(Plot, LoadOfARoutingCountsEveryAssignment) {
  Routing routing;
  routing.num_tokens = 3;
  routing.num_experts = 4;
  routing.token_begin = {0, 2, 3, 3};
  routing.expert = {0, 3, 3};
  routing.weight = {0.5f, 0.5f, 1.0f};
  const Picture picture = picture_of_load(routing, "by hand");
  const auto columns = chart_of(picture).series[0].points;
  EXPECT_EQ(columns[0].y, 1);
  EXPECT_EQ(columns[3].y, 2);
  const Heat& heat = std::get<Heat>(picture.panels[1].content);
  EXPECT_EQ(heat.rows, 3);
  EXPECT_EQ(heat.values, (std::vector<double>{1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0}));
}

TEST(Plot, ManyTokensShareRowsOfTheMap) {
  Routing routing;
  routing.num_tokens = 2001;
  routing.num_experts = 2;
  routing.token_begin.push_back(0);
  for (std::int64_t t = 0; t < routing.num_tokens; ++t) {
    routing.expert.push_back(1);
    routing.weight.push_back(1);
    routing.token_begin.push_back(t + 1);
  }
  const Picture picture = picture_of_load(routing, "");
  const Heat& heat = std::get<Heat>(picture.panels[1].content);
  EXPECT_LE(heat.rows, 512);
  EXPECT_NEAR(heat.values.back(), 1, 1e-12) << "the last row is of fewer tokens";
}

TEST(Plot, PermHasThreePanels) {
  std::vector<Record> records = {layer_record("sort", 64, 2), layer_record("sort", 256, 4)};
  for (Record& record : records) record["bw_GiBps_strict"] = 3.0;
  const Picture picture = picture_of(PlotKind::perm, records, {});
  ASSERT_EQ(picture.panels.size(), 3u);
  EXPECT_EQ(picture.panels[1].title, "Effective bandwidth");
}

TEST(Plot, SaysWhatIsMissing) {
  const std::vector<Record> failed = {failed_record("loop", 64, "no")};
  EXPECT_EQ(error_of(PlotKind::throughput, failed),
            "nothing to draw: throughput needs ok records with tokens_per_s; of 1 records 1 failed "
            "and 0 lack it");
  const std::vector<Record> records = {layer_record("loop", 64, 2)};
  EXPECT_NE(error_of(PlotKind::drop, records), "");
  EXPECT_NE(error_of(PlotKind::load, records).find("expert_load"), std::string::npos);
  EXPECT_NE(error_of(PlotKind::speedup, records).find("--baseline"), std::string::npos);
  EXPECT_NE(error_of(PlotKind::speedup, records, {.x = {}, .by = {}, .baseline = {{"impl", "x"}}}),
            "");
  EXPECT_NE(error_of(PlotKind::throughput, records, {.x = "impl", .by = {}, .baseline = {}}), "");
  EXPECT_NE(error_of(PlotKind::throughput, records, {.x = {}, .by = {"imlp"}, .baseline = {}}), "");
  EXPECT_NE(error_of(PlotKind::throughput, {}), "");
}

TEST(Plot, RefusesMoreSeriesThanCanBeToldApart) {
  std::vector<Record> records;
  for (int i = 0; i < 20; ++i) {
    for (const int tokens : {64, 256}) {
      records.push_back(layer_record("impl" + std::to_string(i), tokens, 1));
    }
  }
  EXPECT_NE(error_of(PlotKind::throughput, records).find("20 series, told apart by impl"),
            std::string::npos);
}

TEST(Plot, KindsHaveNames) {
  for (const PlotKindInfo& info : plot_kinds())
    EXPECT_EQ(plot_kind_from_name(info.name), info.kind);
  EXPECT_THROW(plot_kind_from_name("latenzy"), Error);
}

}  // namespace
}  // namespace switchyard
