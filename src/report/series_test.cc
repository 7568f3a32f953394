#include "report/series.h"

#include <gtest/gtest.h>

#include <numeric>

#include "report/report_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

std::vector<std::int64_t> all_of(const std::vector<Record>& records) {
  std::vector<std::int64_t> indices(records.size());
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

TEST(Series, AreAscendingAndNamedByWhatVaries) {
  const std::vector<Record> records = {test::layer_record("loop", 256, 4),
                                       test::layer_record("loop", 64, 2),
                                       test::layer_record("grouped", 64, 1)};
  const std::string by[] = {"impl", "strategy"};
  const Grouping grouping = group_records(records, all_of(records), "tokens", by);
  ASSERT_EQ(grouping.groups.size(), 2u);
  EXPECT_EQ(grouping.groups[0].name, "loop");
  EXPECT_EQ(grouping.groups[0].records, (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(grouping.groups[1].name, "grouped");
}

TEST(Series, AreToldApartByWhatElseDiffers) {
  std::vector<Record> records = {test::layer_record("loop", 64, 2),
                                 test::layer_record("loop", 64, 3)};
  records[1]["dtype"] = "f32";
  const std::string by[] = {"impl"};
  const Grouping grouping = group_records(records, all_of(records), "tokens", by);
  ASSERT_EQ(grouping.groups.size(), 2u);
  EXPECT_EQ(grouping.groups[1].name, "f32");
}

TEST(Series, AreNamedByAFieldThatAllHaveBeforeOneThatSomeLack) {
  std::vector<Record> records = {test::layer_record("loop", 64, 2),
                                 test::layer_record("loop", 64, 3)};
  records[1].erase("strategy");
  records[1]["routing"] = "trace:../data/olmoe.jsonl";
  const std::int64_t used[] = {0, 1};
  const Grouping grouping = group_records(records, used, "tokens", {});
  EXPECT_EQ(grouping.by, std::vector<std::string>{"routing"});
  ASSERT_EQ(grouping.groups.size(), 2u);
  EXPECT_EQ(grouping.groups[1].name, "trace:olmoe.jsonl");
}

TEST(Series, OfRepeatedMeasurementsTheLastStands) {
  const std::vector<Record> records(3, test::layer_record("loop", 64, 2));
  const std::string by[] = {"impl"};
  const Grouping grouping = group_records(records, all_of(records), "tokens", by);
  ASSERT_EQ(grouping.groups.size(), 1u);
  EXPECT_EQ(grouping.groups[0].records, (std::vector<std::int64_t>{2}));
}

TEST(Series, AxisIsThePreferredOneIfItVaries) {
  std::vector<Record> records = {test::layer_record("loop", 64, 2),
                                 test::layer_record("loop", 64, 2)};
  records[1]["experts"] = 16;
  EXPECT_EQ(widest_axis(records, all_of(records), "tokens"), "experts");
  records[1]["tokens"] = 128;
  EXPECT_EQ(widest_axis(records, all_of(records), "tokens"), "tokens");
}

TEST(Series, GeometricSweepsAreLogarithmic) {
  const double sweep[] = {64, 256, 1024}, factors[] = {0.9, 1, 1.5}, zero[] = {0, 100};
  EXPECT_EQ(axis_of("T", sweep).scale, Scale::log2);
  EXPECT_EQ(axis_of("T", sweep).tics.size(), 3u);
  EXPECT_EQ(axis_of("c", factors).scale, Scale::linear);
  EXPECT_EQ(axis_of("z", zero).scale, Scale::linear);
}

TEST(Series, MatchesAreFieldAndValue) {
  EXPECT_EQ(parse_match("impl=loop"), (Match{"impl", "loop"}));
  EXPECT_EQ(parse_match("routing=trace:a=b"), (Match{"routing", "trace:a=b"}));
  EXPECT_THROW(parse_match("impl"), Error);
  EXPECT_THROW(parse_match("=loop"), Error);
  EXPECT_THROW(parse_match("imlp=loop"), Error);
  const Record record = test::layer_record("loop", 64, 2);
  EXPECT_TRUE(matches(record, {"tokens", "64"}));
  EXPECT_FALSE(matches(record, {"ffn", ""}));
}

}  // namespace
}  // namespace switchyard
