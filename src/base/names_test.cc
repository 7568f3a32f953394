#include "base/names.h"

#include <gtest/gtest.h>

#include <array>

namespace switchyard {
namespace {

constexpr std::array<std::string_view, 4> kVerbs = {"bench", "run", "report", "info"};

TEST(Names, NearestFindsTypos) {
  EXPECT_EQ(nearest("becnh", kVerbs), "bench");
  EXPECT_EQ(nearest("repotr", kVerbs), "report");
  EXPECT_EQ(nearest("inf", kVerbs), "info");
}

TEST(Names, NothingNearIsNothing) {
  EXPECT_EQ(nearest("completely-else", kVerbs), "");
  EXPECT_EQ(nearest("", kVerbs), "");
}

TEST(Names, SentenceNamesTheThingAndTheChoices) {
  EXPECT_EQ(unknown_name("verb", "bnech", kVerbs),
            "unknown verb 'bnech': expected one of bench, run, report, info (did you mean bench?)");
}

}  // namespace
}  // namespace switchyard
