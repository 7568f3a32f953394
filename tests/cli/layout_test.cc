// switchyard layout: expressions, the library's own layouts, pictures.

#include <gtest/gtest.h>

#include <regex>

#include "command.h"

namespace switchyard::test {
namespace {

using Json = nlohmann::json;

Result layout(std::vector<std::string> args) {
  args.insert(args.begin(), "layout");
  return run(args);
}

Json json_of(std::vector<std::string> args) {
  args.insert(args.end(), {"-o", "json"});
  const Result result = layout(args);
  EXPECT_EQ(result.status, 0) << result.err;
  return Json::parse(result.out);
}

void expect_refused(const std::vector<std::string>& args, const std::vector<std::string>& pieces) {
  const Result result = layout(args);
  EXPECT_EQ(result.status, 2) << args[0] << '\n' << result.err;
  EXPECT_EQ(result.out, "");
  for (const std::string& piece : pieces) {
    EXPECT_NE(result.err.find(piece), std::string::npos) << args[0] << ": " << result.err;
  }
}

TEST(Layout, PrintsOffsetsAlignedAndWhatTheFunctionIs) {
  const Result result = layout({"(3,4):(4,1)"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out,
            "layout     (3,4):(4,1)\n"
            "size       12\n"
            "cosize     12\n"
            "injective  yes\n"
            "bijective  yes\n"
            "\n"
            "   0  1   2   3\n"
            "0  0  1   2   3\n"
            "1  4  5   6   7\n"
            "2  8  9  10  11\n");
  EXPECT_NE(layout({"(2,3):(1,1)"}).out.find("injective  no"), std::string::npos);
  EXPECT_NE(layout({"4:2"}).out.find("   0  1  2  3\n0  0  2  4  6\n"), std::string::npos);
}

TEST(Layout, EvaluatesExpressions) {
  const Json composed = json_of({"(6,2):(8,2) o (4,3):(3,1)"});
  EXPECT_EQ(composed["layout"], "((2,2),3):((24,2),8)");
  EXPECT_EQ(composed["shape"], Json::parse("[[2,2],3]"));
  EXPECT_EQ(composed["size"], 12);
  EXPECT_EQ(composed["cosize"], 43);
  EXPECT_EQ(composed["injective"], true);
  EXPECT_EQ(composed["bijective"], false);
  EXPECT_EQ(composed["offsets"][1], Json::parse("[24,32,40]"));
  EXPECT_EQ(json_of({"zipped_divide((8,16):(16,1), <4,8>)"})["layout"],
            "((4,8),(2,2)):((16,1),(64,8))");
  EXPECT_EQ(json_of({"(2,3,4)"})["columns"], 12);
}

TEST(Layout, LargeOnesAreCutAndSaySo) {
  const Result result = layout({"(4096,11008):(11008,1)"});
  EXPECT_NE(result.out.find("... 40 of 4096 rows, "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find(" of 11008 columns\n"), std::string::npos);
  EXPECT_FALSE(json_of({"(4096,11008):(11008,1)"}).contains("offsets"));
  EXPECT_EQ(layout({"(3037000499,3037000499)"}).status, 0);
}

TEST(Layout, ErrorsPointIntoTheExpression) {
  expect_refused({"(6,2):(8,2"}, {"column 11", "',' or ')'", "the end"});
  expect_refused({"(4,8):(1,2,3)"}, {"column 7", "(1,2,3)", "(4,8)"});
  expect_refused({"compose(4:1,2:1)"}, {"column 1", "unknown function 'compose'"});
  expect_refused({"(6,4):(1,100) o 6:4"}, {"column 1", "6:4", "6:1", "at most 5"});
  expect_refused({""}, {"column 1", "expected a layout"});
  expect_refused({"prepak"}, {"unknown layout 'prepak'", "did you mean prepack?"});
  expect_refused({"4:1", "--rows", "4"}, {"--rows", "nothing"});
  expect_refused({"capacity", "--isa", "avx2"}, {"--isa", "`layout capacity`"});
  expect_refused({"prepack", "--dtype", "int9"}, {"int9"});
  expect_refused({"prepack", "--rows", "4,8"}, {"--rows", "one number"});
  expect_refused({"block", "--expert-rows", "0,0"}, {"--expert-rows 0,0", "at least one"});
}

// Format of amx_bf16: [k / 32][n / 16][k % 32 / 2][n % 16][k % 2] (src/gemm/gemm_kernel.h).
TEST(Layout, PrepackIsTheRealOne) {
  const Json amx = json_of({"prepack", "--isa", "amx_bf16", "--rows", "40", "--cols", "70"});
  ASSERT_EQ(amx["offsets"].size(), 64u);
  ASSERT_EQ(amx["offsets"][0].size(), 96u);
  for (int n = 0; n < 64; ++n) {
    for (int k = 0; k < 96; ++k) {
      const int expected = n / 32 * 96 * 32 + k / 32 * 1024 + n % 32 / 16 * 512 + k % 32 / 2 * 32 +
                           n % 16 * 2 + k % 2;
      ASSERT_EQ(amx["offsets"][n][k], expected) << n << ' ' << k;
    }
  }
  EXPECT_EQ(amx["bijective"], true);
  const Json f32 = json_of({"prepack", "--dtype", "f32"});
  EXPECT_EQ(f32["layout"], "((16,2,1),32):((1,16,1024),32)");
  for (const std::string dtype : {"f16", "int8", "int4"}) {
    EXPECT_EQ(json_of({"prepack", "--dtype", dtype, "--gated"})["injective"], true) << dtype;
  }
  EXPECT_EQ(json_of({"panel", "--isa", "portable", "--dtype", "f32"})["layout"], "(16,32):(48,1)");
}

TEST(Layout, RowsOfPlans) {
  EXPECT_EQ(json_of({"capacity", "--experts", "8", "--capacity", "5", "--hidden", "16"})["layout"],
            "(8,5,16):(80,16,1)");
  const Result block = layout({"block", "--expert-rows", "5,0,3", "--block-rows", "4"});
  EXPECT_NE(block.out.find("(3,4,8):(32,8,1)"), std::string::npos) << block.out;
  EXPECT_NE(block.out.find("e0 b1 r1 padding"), std::string::npos);
  EXPECT_NE(block.out.find("e2 b2 r2  80"), std::string::npos);
}

TEST(Layout, DrawsEveryCell) {
  const Folder folder;
  const std::string file = folder.write("tiles.svg", "something older");
  const Result result = layout({"zipped_divide((8,16):(16,1), <4,8>)", "--svg", file});
  EXPECT_EQ(result.status, 0) << result.err;
  const std::string svg = read_file(file);
  EXPECT_EQ(svg.rfind("<svg ", 0), 0u);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
  EXPECT_NE(svg.find("zipped_divide((8,16):(16,1), &lt;4,8&gt;) = ((4,8),(2,2))"),
            std::string::npos);
  const std::regex cell("<rect x=");
  EXPECT_EQ(std::distance(std::sregex_iterator(svg.begin(), svg.end(), cell), {}), 128);
  EXPECT_EQ(svg.find("<4,8>"), std::string::npos);

  expect_refused({"(4096,4096)", "--svg", file}, {"16384 cells", "16777216"});
  EXPECT_EQ(read_file(file), svg);
  const Result nowhere = layout({"4:1", "--svg", folder.file("none/x.svg")});
  EXPECT_EQ(nowhere.status, 1);
  EXPECT_NE(nowhere.err.find("none/x.svg"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::test
