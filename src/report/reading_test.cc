#include "report/reading.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "report/report_testing.h"

namespace switchyard {
namespace {

using test::failed_record;
using test::layer_record;

/// All sentences, one per line.
std::string reading(const std::vector<Record>& records) {
  std::string text;
  for (const TargetRecords& target : by_target(records)) {
    for (const Sentence& sentence : reading_of(records, target)) text += text_of(sentence) + '\n';
  }
  return text;
}

bool says(const std::vector<Record>& records, std::string_view what) {
  const std::string text = reading(records);
  EXPECT_NE(text.find(what), std::string::npos) << what << "\nnot in\n" << text;
  return text.find(what) != std::string::npos;
}

TEST(Reading, NamesTheLongestStage) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 4)};
  says(records, "The stage experts takes the most time in 2 of 2 cells: 89% of it at the median");
}

TEST(Reading, NamesAWinnerWhoseIntervalIsApart) {
  const std::vector<Record> records = {layer_record("loop", 64, 4), layer_record("grouped", 64, 2),
                                       layer_record("loop", 256, 4),
                                       layer_record("grouped", 256, 1)};
  says(records,
       "grouped wins in 2 of 2 cells, by a factor of 2.00 to 4.00 over the next: T 64; T 256.");
}

TEST(Reading, NamesNoWinnerWhereIntervalsOverlap) {
  const std::vector<Record> records = {layer_record("loop", 64, 2.1),
                                       layer_record("grouped", 64, 2)};
  says(records, "No clear winner in 1 of 1 cell");
  EXPECT_EQ(reading(records).find("wins"), std::string::npos);
}

TEST(Reading, NamesNoWinnerWithoutIntervals) {
  std::vector<Record> records = {layer_record("loop", 64, 20), layer_record("grouped", 64, 2)};
  records[1].erase("ci95_high_ms");
  says(records, "No clear winner");
}

TEST(Reading, ComparesNothingAcrossMachinesOrCommits) {
  std::vector<Record> records = {layer_record("loop", 64, 20), layer_record("grouped", 64, 2)};
  for (const char* field : {"host", "cpu", "git_sha"}) {
    records[1] = layer_record("grouped", 64, 2);
    records[1][field] = "another";
    EXPECT_TRUE(contests_of(records, by_target(records)[0]).empty()) << field;
  }
}

TEST(Reading, OfRepeatedRunsTheLastCounts) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("grouped", 64, 9),
                                       layer_record("grouped", 64, 1)};
  const auto contests = contests_of(records, by_target(records)[0]);
  ASSERT_EQ(contests.size(), 1u);
  EXPECT_EQ(contests[0].records, (std::vector<std::int64_t>{2, 0}));
  EXPECT_TRUE(contests[0].is_decided);
}

TEST(Reading, SaysHowFarFromTheLimit) {
  std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 256, 4)};
  records[0]["fraction_of_limit"] = 1.2;
  says(records,
       "loop reaches 120% of the measured limit at best (T 64), 85% at the median of 2 "
       "cells. More than 105% means that the limit was measured too low");
  says(records, "Memory is the limit everywhere.");
}

TEST(Reading, WarnsOfWideIntervals) {
  std::vector<Record> records = {layer_record("loop", 64, 2)};
  records[0]["ci95_high_ms"] = 3.0;
  says(records, "In 1 of 1 cell the median is known to no better than 10%");
}

TEST(Reading, CountsFailuresByKind) {
  std::vector<Record> records = {layer_record("loop", 64, 2), failed_record("loop", 256, "big"),
                                 failed_record("loop", 512, "off")};
  records[2]["error_code"] = "check_failed";
  says(records, "1 of 3 cells did not fit in memory: ");
  says(records, "1 of 3 cells gave an output that failed its check: ");
}

TEST(Reading, OfNothingButFailuresIsThose) {
  const std::vector<Record> records = {failed_record("loop", 256, "big")};
  EXPECT_EQ(reading(records), "1 of 1 cell did not fit in memory: loop.\n");
}

TEST(Reading, PhrasesPointAtRecords) {
  const std::vector<Record> records = {layer_record("loop", 64, 4), layer_record("grouped", 64, 2),
                                       failed_record("loop", 256, "big")};
  const auto targets = by_target(records);
  ASSERT_EQ(targets.size(), 1u);
  for (const Sentence& sentence : reading_of(records, targets[0])) {
    for (const Phrase& phrase : sentence) {
      EXPECT_GE(phrase.record, kNoRecord);
      EXPECT_LT(phrase.record, 3);
    }
  }
}

}  // namespace
}  // namespace switchyard
