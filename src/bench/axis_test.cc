#include "bench/axis.h"

#include <gtest/gtest.h>

#include "switchyard/error.h"

namespace switchyard {
namespace {

using Integers = std::vector<std::int64_t>;

std::string sentence_of(std::string_view text) {
  try {
    integer_axis("--tokens", text, 1, 1'000'000);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "no error";
}

TEST(Axis, ReadsListsInTheOrderGiven) {
  EXPECT_EQ(integer_axis("--tokens", "1", 1, 10), (Integers{1}));
  EXPECT_EQ(integer_axis("--tokens", "4,1,4", 1, 10), (Integers{4, 1, 4}));
  EXPECT_EQ(number_axis("--capacity-factor", "1.25,0", 0, 10), (std::vector<double>{1.25, 0}));
  EXPECT_EQ(name_axis("--impl", "loop,grouped"), (std::vector<std::string>{"loop", "grouped"}));
}

TEST(Axis, ReadsRanges) {
  EXPECT_EQ(integer_axis("--tokens", "64:4096:*2", 1, 5000),
            (Integers{64, 128, 256, 512, 1024, 2048, 4096}));
  EXPECT_EQ(integer_axis("--tokens", "1:10:+3", 1, 10), (Integers{1, 4, 7, 10}));
  EXPECT_EQ(integer_axis("--tokens", "1:9:+3", 1, 10), (Integers{1, 4, 7}));
  EXPECT_EQ(integer_axis("--tokens", "7:7:*2,1:2:+1", 1, 10), (Integers{7, 1, 2}));
  EXPECT_EQ(number_axis("--capacity-factor", "1:2:+0.1", 0, 10).size(), 11u);
}

TEST(Axis, SurvivesTheEdgeOfItsType) {
  constexpr std::int64_t kMost = INT64_MAX;
  EXPECT_EQ(integer_axis("--seed", "9223372036854775806:9223372036854775807:+1", 0, kMost).size(),
            2u);
  EXPECT_EQ(integer_axis("--seed", "4611686018427387904:9223372036854775807:*2", 0, kMost).size(),
            1u);
}

TEST(Axis, NamesTheOptionAndThePieceThatIsWrong) {
  EXPECT_EQ(sentence_of("0"), "--tokens '0': 0 is out of range, expected 1 to 1000000");
  EXPECT_EQ(sentence_of("8,-4"), "--tokens '-4': -4 is out of range, expected 1 to 1000000");
  EXPECT_EQ(sentence_of("8,12x"), "--tokens '12x': '12x' is not a whole number");
  EXPECT_EQ(sentence_of("1.5"), "--tokens '1.5': '1.5' is not a whole number");
  EXPECT_EQ(sentence_of("many"), "--tokens 'many': 'many' is not a whole number");
  EXPECT_EQ(sentence_of(""), "--tokens '': '' is not a whole number");
  EXPECT_EQ(sentence_of("1,,2"), "--tokens '': '' is not a whole number");
  EXPECT_EQ(sentence_of("99999999999999999999"),
            "--tokens '99999999999999999999': '99999999999999999999' is too large, expected 1 to "
            "1000000");
  EXPECT_EQ(sentence_of("2000000"),
            "--tokens '2000000': 2000000 is out of range, expected 1 to 1000000");
}

TEST(Axis, RefusesRangesThatGoNowhere) {
  for (const char* text : {"1:2", "1:2:3", "1:2:*2:4", "1:2:", "1:2:*", "1:2:+x", ":2:*2", "1::*2",
                           "8:4:*2", "1:8:*1", "1:8:*0", "1:8:+0", "1:8:*-2", "1:1000000:+1"}) {
    EXPECT_NE(sentence_of(text), "no error") << text;
  }
  EXPECT_THROW(number_axis("--x", "nan", 0, 1), Error);
  EXPECT_THROW(number_axis("--x", "inf", 0, 1), Error);
  EXPECT_THROW(number_axis("--x", "0:1:*2", 0, 1), Error);
  EXPECT_THROW(name_axis("--impl", "loop,"), Error);
}

}  // namespace
}  // namespace switchyard
