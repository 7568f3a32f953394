#include "report/fields.h"

#include <gtest/gtest.h>

#include "report/escape.h"
#include "report/report_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

TEST(Fields, NumbersAreShort) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(16384), "16384");
  EXPECT_EQ(short_number(1048576), "1048576");
  EXPECT_EQ(short_number(1.05), "1.05");
  EXPECT_EQ(short_number(0.123456), "0.1235");
}

TEST(Fields, TextIsCleaned) {
  EXPECT_EQ(clean_text("a\nb\tc\x7f"), "a b c ");
  EXPECT_EQ(clean_text("µ…𝄞"), "µ…𝄞");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(clean_text("x\xffy"), "x" + bad + "y");
  EXPECT_EQ(clean_text("\xc3"), bad);                      // cut short
  EXPECT_EQ(clean_text("\xc0\xaf"), bad + bad);            // overlong
  EXPECT_EQ(clean_text("\xed\xa0\x80"), bad + bad + bad);  // surrogate
  EXPECT_EQ(clean_text(std::string_view("a\0b", 3)), "a b");
}

TEST(Fields, EscapedTextHoldsNoMarkup) {
  EXPECT_EQ(escaped("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
}

TEST(Fields, ValuesAreNamed) {
  const Record record = test::layer_record("loop", 64, 2);
  const std::string fields[] = {"impl", "tokens", "threads", "ffn", "git_sha"};
  EXPECT_EQ(named_values(record, fields), "loop, T 64, 2 threads, commit 0123456");
}

TEST(Fields, CommonValuesLeaveOutWhatGoesWithoutSaying) {
  const Record a = test::layer_record("loop", 64, 2), b = test::layer_record("grouped", 64, 1);
  const Record* both[] = {&a, &b};
  const std::string told[] = {"tokens"};
  EXPECT_EQ(common_values(both, told),
            "topk_softmax, compact, uniform, H 64, E 8, K 2, bf16, 2 threads, avx512, a CPU, "
            "commit 0123456");
}

TEST(Fields, QuantitiesScale) {
  EXPECT_EQ(quantity_of("tokens_per_s", 5e6).label, "tokens per second, millions");
  EXPECT_EQ(quantity_of("median_ms", 0.01).factor, 1e3);
  EXPECT_EQ(quantity_of("drop_rate", 0.5).label, "dropped assignments, %");
  EXPECT_EQ(quantity_of("weight_bytes", 3e9).label, "weight_bytes, GiB");
}

TEST(Fields, QuantitiesRefuseWhatIsNone) {
  try {
    quantity_of("tokenz", 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "records have no field 'tokenz' (did you mean tokens?)");
  }
  EXPECT_THROW(quantity_of("impl", 1), Error);
}

}  // namespace
}  // namespace switchyard
