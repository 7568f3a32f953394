// switchyard info and switchyard plan.

#include <gtest/gtest.h>

#include <algorithm>

#include "command.h"

namespace switchyard::test {
namespace {

using Json = nlohmann::json;

Json json_of(const std::string& line, const Setting& setting = {}) {
  const Result result = run(line, setting);
  EXPECT_EQ(result.status, 0) << line << '\n' << result.err;
  return Json::parse(result.out);
}

TEST(Info, JsonAndTableTellTheSame) {
  const Json info = json_of("info -o json");
  const std::string table = run("info").out;
  for (const std::string key : {"build", "cpu", "memory", "isa", "kernels", "parts"}) {
    EXPECT_TRUE(info.contains(key)) << key;
  }
  EXPECT_NE(table.find(info["cpu"]["model"].get<std::string>()), std::string::npos);
  EXPECT_NE(table.find(info["build"]["commit"].get<std::string>()), std::string::npos);
  EXPECT_GT(info["memory"]["available_bytes"].get<double>(), 0);
}

TEST(Info, TheCapOnTheInstructionSetIsObeyed) {
  const Json info = json_of("info -o json", {{{"SWITCHYARD_MAX_ISA", "portable"}}, ""});
  EXPECT_EQ(info["isa"]["chosen"], "portable");
  for (const auto& [family, kernel] : info["kernels"].items()) {
    EXPECT_NE(kernel.get<std::string>().find("portable"), std::string::npos) << family;
  }
}

// An option of bench, but for the hyphens.
bool is_known_knob(std::string knob) {
  std::replace(knob.begin(), knob.end(), '_', '-');
  return run("bench --help").out.find("--" + knob) != std::string::npos;
}

TEST(Info, StrategiesSayWhereTheyComeFromAndWhetherTheyAreCausal) {
  const Json strategies = json_of("info strategies -o json");
  ASSERT_GE(strategies.size(), 8u);
  EXPECT_EQ(strategies[0]["name"], "topk_softmax");
  for (const Json& strategy : strategies) {
    EXPECT_NE(strategy["source"], "");
    EXPECT_TRUE(strategy["causal"].is_boolean());
    EXPECT_TRUE(strategy["knobs"].is_array());
    for (const Json& knob : strategy["knobs"]) {
      EXPECT_TRUE(is_known_knob(knob)) << strategy["name"] << " " << knob;
    }
  }
  const std::string text = run("info strategies").out;
  EXPECT_NE(text.find("\nexpert_choice\n"), std::string::npos);
  EXPECT_NE(text.find("causal: no\n  knobs: top_k, choice_capacity\n"), std::string::npos);
}

TEST(Info, MeasureAddsTheCeilings) {
  const Json info = json_of("info --measure -o json");
  EXPECT_GT(info["ceilings"]["read_bw"].get<double>(), 1e8);
  EXPECT_GT(info["peak_flops"]["portable/f32"].get<double>(), 1e7);
}

TEST(Plan, CountsRowsDropsAndPadding) {
  const std::string line = "plan --tokens 64 --experts 8 --top-k 2 --hidden 32 --ffn 16 -o json";
  const Json compact = json_of(line);
  std::int64_t rows = 0;
  for (const Json& n : compact["expert_rows"]) rows += n.get<std::int64_t>();
  EXPECT_EQ(rows, 128);
  EXPECT_EQ(compact["padding_rows"], 0);
  EXPECT_EQ(compact["drop_rate"], 0);
  // 6 * A * H * F of the experts, 2 * T * H * E of the router
  EXPECT_EQ(compact["flops"], 6.0 * 128 * 32 * 16 + 2.0 * 64 * 32 * 8);

  const Json capacity = json_of(line + " --layout capacity --capacity-factor 1 --routing zipf:1.5");
  EXPECT_EQ(capacity["capacity"], 16);
  EXPECT_EQ(capacity["rows"], 128);
  EXPECT_GT(capacity["drop_rate"].get<double>(), 0);
  EXPECT_GT(capacity["padding_rows"].get<std::int64_t>(), 0);
}

TEST(Plan, TableShowsEveryExpert) {
  const Result result = run("plan --tokens 16 --experts 4 --top-k 1");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("max/mean"), std::string::npos) << result.out;
}

}  // namespace
}  // namespace switchyard::test
