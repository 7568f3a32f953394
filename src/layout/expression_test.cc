#include "layout/expression.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "layout/layout_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

RC_GTEST_PROP(LayoutText, ReadsWhatItPrints, ()) {
  const TensorLayout layout = *any_layout();
  RC_ASSERT(parse_layout(to_string(layout)) == layout);
  RC_ASSERT(evaluate_layout(to_string(layout)) == layout);
}

TEST(LayoutText, BlanksAreFreeAndAShapeIsColumnMajor) {
  EXPECT_EQ(to_string(parse_layout(" ( 4 ,\t(2, 3) ) : (1, (4,8))\n")), "(4,(2,3)):(1,(4,8))");
  EXPECT_EQ(to_string(parse_layout("(4,(2,3))")), "(4,(2,3)):(1,(4,8))");
  EXPECT_EQ(to_string(parse_layout("7")), "7:1");
  EXPECT_EQ(to_string(parse_layout("((7))")), "((7)):((1))");
}

TEST(LayoutExpression, FunctionsNestAndCompositionGoesFromTheLeft) {
  EXPECT_EQ(to_string(evaluate_layout("composition((6,2):(8,2),(4,3):(3,1))")),
            to_string(evaluate_layout("(6,2):(8,2) o (4,3):(3,1)")));
  EXPECT_EQ(to_string(evaluate_layout("8:2 o 4:2o2:1")), "2:4");
  EXPECT_EQ(to_string(evaluate_layout("coalesce( (4,8) o 32 )")), "32:1");
  EXPECT_EQ(to_string(evaluate_layout("right_inverse(left_inverse((4,8):(8,1)))")), "(4,8):(8,1)");
  EXPECT_EQ(to_string(evaluate_layout("complement(4:2)")), "2:1");
}

TEST(LayoutExpression, ErrorsSayWhereWhatWasExpectedAndWhatWasFound) {
  const struct {
    const char* text;
    std::vector<std::string> pieces;
  } cases[] = {
      {"", {"column 1", "expected a layout", "the end"}},
      {"  ", {"column 3", "the end"}},
      {"(4,8", {"column 5", "',' or ')'", "the end"}},
      {"(4,,8)", {"column 4", "a size", "','"}},
      {"(4,8):", {"column 7", "a stride", "the end"}},
      {"()", {"column 2", "a size", "')'"}},
      {"(4,0)", {"column 4", "at least 1", "'0'"}},
      {"4:-1", {"column 3", "a stride", "negative"}},
      {"(4,8):(1)", {"column 7", "(1)", "nesting", "(4,8)"}},
      {"(4,8):(1,(4))", {"column 7", "nesting"}},
      {"4:1 8:1", {"column 5", "'o' or the end", "'8'"}},
      {"4:1 x 8:1", {"column 5", "'o'", "'x'"}},
      {"4:1 o", {"column 6", "a layout", "the end"}},
      {"compositon(4:1,2:1)",
       {"column 1", "unknown function 'compositon'", "did you mean composition?"}},
      {"composition(4:1)", {"column 16", "','", "')'"}},
      {"complement(4:1, 2:1)", {"column 18", "')'", "':'"}},
      {"complement(4:1, x)", {"column 17", "size to fill", "'x'"}},
      {"coalesce(4:1", {"column 13", "')'", "the end"}},
      {"4:1 o <2:1>", {"column 7", "a layout", "'<'"}},
      {"logical_divide((4,8), <4", {"column 25", "',' or '>'"}},
      {"8:1 o coalesce((6,4):(1,100) o 6:4)", {"column 16", "4 + 4"}},
      {"99999999999999999999", {"column 1", "63 bits"}},
      {"(9223372036854775807,2)", {"column 1", "63 bits"}},
      {"4:\x01", {"column 3", "0x01"}},
  };
  for (const auto& c : cases) {
    try {
      FAIL() << c.text << " is " << to_string(evaluate_layout(c.text));
    } catch (const Error& error) {
      for (const std::string& piece : c.pieces) {
        EXPECT_NE(std::string(error.what()).find(piece), std::string::npos)
            << c.text << ": " << error.what();
      }
    }
  }
  EXPECT_THROW(parse_layout("coalesce(4:1)"), Error);
  EXPECT_THROW(parse_layout("4:1 o 2:1"), Error);
}

TEST(LayoutExpression, NestingIsBounded) {
  const std::string open(100000, '('), functions = [] {
    std::string text;
    for (int i = 0; i < 10000; ++i) text += "coalesce(";
    return text;
  }();
  EXPECT_THROW(evaluate_layout(open), Error);
  EXPECT_THROW(evaluate_layout(functions), Error);
  const std::string deep = std::string(60, '(') + "4" + std::string(60, ')');
  EXPECT_EQ(evaluate_layout(deep).depth(), 60);
}

}  // namespace
}  // namespace switchyard
