#include "bench/table.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

Record cell(const char* impl, int tokens, double ms) {
  return {{"bench", "layer"},
          {"impl", impl},
          {"config", "olmoe"},
          {"tokens", tokens},
          {"hidden", 2048},
          {"threads", 2},
          {"ok", true},
          {"check_rel_err", 2.1e-3},
          {"median_ms", ms},
          {"ci95_low_ms", ms * 0.99},
          {"ci95_high_ms", ms * 1.01},
          {"p95_ms", ms * 1.25},
          {"tokens_per_s", tokens / ms * 1000},
          {"limit_ms", 23.7},
          {"fraction_of_limit", 23.7 / ms},
          {"drop_rate", 0.0}};
}

const std::vector<Record> kTwo = {cell("loop", 64, 47.25), cell("grouped", 4096, 268)};

TEST(Table, CommonIsSaidOnceAndColumnsAlign) {
  EXPECT_EQ(text_table(kTwo, 0),
            "bench layer, config olmoe, H 2048, threads 2\n"
            "\n"
            "   T  impl        ms  +-%  p95 ms  tokens/s  limit ms  of limit %  rel. error\n"
            "  64  loop     47.25  1.0   59.06     1.35k     23.70        50.2     2.1e-03\n"
            "4096  grouped  268.0  1.0   335.0     15.3k     23.70         8.8     2.1e-03\n");
}

TEST(Table, NarrowTerminalsLoseTheLeastTellingColumns) {
  EXPECT_EQ(text_table(kTwo, 40),
            "bench layer, config olmoe, H 2048, threads 2\n"
            "\n"
            "   T  impl        ms  of limit %\n"
            "  64  loop     47.25        50.2\n"
            "4096  grouped  268.0         8.8\n");
  EXPECT_NE(text_table(kTwo, 1).find("4096  grouped  268.0\n"), std::string::npos);
}

TEST(Table, ErrorsStandUnderTheirCells) {
  const std::vector<Record> records = {cell("loop", 64, 47.25),
                                       {{"bench", "layer"},
                                        {"impl", "padded"},
                                        {"tokens", 64},
                                        {"ok", false},
                                        {"error", "no\nroom"}}};
  const std::string text = text_table(records, 40);
  EXPECT_NE(text.find("failed"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("    error: no room\n")) << text;
}

TEST(Table, CostsWhenNothingWasTimed) {
  const std::vector<Record> records = {
      {{"impl", "loop"}, {"tokens", 64}, {"flops", 6.4e9}, {"memory_bytes", 3221225472}}};
  EXPECT_EQ(text_table(records, 0),
            " T  impl    memory   flop\n"
            "64  loop  3.00 GiB  6.40G\n");
}

TEST(Table, Markdown) {
  std::vector<Record> records = kTwo;
  records[0]["impl"] = "a|b";
  const std::string text = markdown_table(records);
  EXPECT_NE(text.find("| T | impl | ms | +-% |"), std::string::npos) << text;
  EXPECT_NE(text.find("| ---: | --- | ---: |"), std::string::npos) << text;
  EXPECT_NE(text.find("a\\|b"), std::string::npos) << text;
}

TEST(Table, NothingGivesNothing) {
  EXPECT_EQ(text_table({}, 80), "");
  EXPECT_EQ(markdown_table({}), "");
}

}  // namespace
}  // namespace switchyard
