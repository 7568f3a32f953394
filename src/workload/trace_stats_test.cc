#include "workload/trace_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "switchyard/error.h"

namespace switchyard {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

/// Columns a terminal shows: bytes that begin a UTF-8 character.
std::size_t columns_of(const std::string& line) {
  return static_cast<std::size_t>(std::count_if(line.begin(), line.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

TEST(TraceStats, AreThoseOfTheLoad) {
  Trace trace;
  trace.layer = "7";
  trace.tokens = 6;
  trace.experts = 4;
  trace.top_k = 2;
  trace.load = {6, 3, 3, 0};
  const TraceStats stats = trace_stats(trace);
  EXPECT_EQ(stats.layer, "7");
  EXPECT_EQ(stats.assignments, 12);
  EXPECT_DOUBLE_EQ(stats.load.max_over_mean, 2.0);
  EXPECT_EQ(stats.load.experts_active, 3);
}

TEST(LoadPicture, HeightsAreTheLoad) {
  const std::vector<std::int64_t> load = {8, 4, 0, 1};
  const auto lines = lines_of(load_picture(load, 20, BarOrder::by_expert));
  ASSERT_EQ(lines.size(), 9u);
  EXPECT_EQ(lines[0], "  2.46 |███         ");
  EXPECT_EQ(lines[4], "  1.23 |██████      ");
  EXPECT_EQ(lines[7], "  0.31 |██████   ███");
  EXPECT_EQ(lines[8], "         4 experts by id, load / mean");
}

TEST(LoadPicture, SortedPutsTheFullestFirst) {
  const std::vector<std::int64_t> load = {1, 4, 0, 8};
  EXPECT_EQ(lines_of(load_picture(load, 20, BarOrder::by_load))[7], "  0.31 |█████████   ");
}

TEST(LoadPicture, ManyExpertsShareColumnsAndNoneOutgrowsTheWidth) {
  for (const std::size_t experts : {1, 7, 12, 13, 100, 4096}) {
    for (const int width : {20, 33, 80}) {
      std::vector<std::int64_t> load(experts, 1);
      load[experts / 2] = 1000;
      const auto lines = lines_of(load_picture(load, width, BarOrder::by_expert));
      for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_LE(columns_of(lines[i]), static_cast<std::size_t>(width));
        EXPECT_NE(lines[i].find("█"), std::string::npos) << "the hot one shows";
      }
    }
  }
}

TEST(LoadPicture, NothingAssignedIsAnEmptyPicture) {
  const std::vector<std::int64_t> load(5, 0);
  EXPECT_EQ(load_picture(load, 40, BarOrder::by_expert).find("█"), std::string::npos);
}

TEST(LoadPicture, NonsenseIsRefused) {
  const std::vector<std::int64_t> load = {1, -1};
  EXPECT_THROW(load_picture({}, 80, BarOrder::by_expert), Error);
  EXPECT_THROW(load_picture(load, 80, BarOrder::by_expert), Error);
  EXPECT_THROW(load_picture(std::span(load).first(1), 5, BarOrder::by_expert), Error);
}

}  // namespace
}  // namespace switchyard
