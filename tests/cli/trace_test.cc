// Traces: as input of bench, in `trace stats`, and damaged.

#include <gtest/gtest.h>

#include "command.h"

namespace switchyard::test {
namespace {

const std::string kBench =
    "bench topk --experts 8 --top-k 2 --tokens 6 --iters 3 --cache warm -o jsonl --routing trace:";

std::string token_line(const std::string& ids, const std::string& weights) {
  return R"({"layer": 7, "topk_ids": )" + ids + R"(, "topk_weights": )" + weights + "}\n";
}

std::string good_trace() {
  return token_line("[0, 1]", "[0.75, 0.25]") + token_line("[2, 7]", "[0.5, 0.5]") +
         token_line("[0, 3]", "[0.625, 0.375]");
}

void expect_refused(const std::string& line, const std::vector<std::string>& pieces) {
  const Result result = run(line);
  EXPECT_EQ(result.status, 2) << line << '\n' << result.err;
  for (const std::string& piece : pieces) {
    EXPECT_NE(result.err.find(piece), std::string::npos) << line << ": " << result.err;
  }
}

TEST(Trace, StatsPrintTheLoadOfEachLayer) {
  const Folder folder;
  const std::string file = folder.write("t.jsonl", good_trace());
  const Result table = run("trace stats " + file);
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find('7'), std::string::npos);

  const Result json = run("trace stats " + file + " -o json");
  ASSERT_EQ(json.status, 0) << json.err;
  const auto layers = nlohmann::json::parse(json.out);
  ASSERT_EQ(layers.size(), 1u);
  EXPECT_EQ(layers[0]["tokens"], 3);
  EXPECT_EQ(layers[0]["experts"], 8);
  EXPECT_EQ(layers[0]["top_k"], 2);
  EXPECT_NEAR(layers[0]["load_max_over_mean"].get<double>(), 2 / (6.0 / 8), 1e-9);
}

TEST(Trace, StatsOfOneLayer) {
  const Folder folder;
  const std::string file = folder.write("t.jsonl", good_trace());
  EXPECT_EQ(run("trace stats " + file + " --layer 7").status, 0);
  expect_refused("trace stats " + file + " --layer 8", {"8", "7"});
}

TEST(Trace, BenchRunsOnIt) {
  const Folder folder;
  const Result result =
      run("bench layer --hidden 16 --ffn 16 --dtype f32 --experts 8 --top-k 2 --tokens 6 --iters 3 "
          "--cache warm -o jsonl --routing trace:" +
          folder.write("t.jsonl", good_trace()));
  ASSERT_EQ(result.status, 0) << result.err;
  const auto records = json_lines(result.out);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_TRUE(records[0]["ok"].get<bool>());
  EXPECT_NEAR(records[0]["load_max_over_mean"].get<double>(), 4 / (12.0 / 8), 1e-9);
  EXPECT_NE(result.err.find("3"), std::string::npos) << "repeated tokens are not mentioned";
}

TEST(Trace, NoStrategyRunsWhereATraceHoldsTheAssignments) {
  const Folder folder;
  const std::string file = folder.write("t.jsonl", good_trace());
  const Result result =
      run("bench pack --experts 8 --top-k 2 --tokens 4 --hidden 16 --strategy softk,hash --iters 3 "
          "--cache warm -o jsonl --routing trace:" +
          file);
  ASSERT_EQ(result.status, 0) << result.err;
  const auto records = json_lines(result.out);
  ASSERT_EQ(records.size(), 1u) << "two strategies, one measurement";
  EXPECT_FALSE(records[0].contains("strategy"));
  EXPECT_FALSE(records[0].contains("causal"));
}

TEST(Trace, DamagedFilesAreRefusedWithFileAndLine) {
  const Folder folder;
  const std::vector<std::pair<std::string, std::string>> damaged = {
      {"empty", ""},
      {"truncated", good_trace() + R"({"layer": 7, "topk_ids": [0,)"},
      {"binary", std::string("\x7f"
                             "ELF\0\1\2\3",
                             8)},
      {"mixed", good_trace() + token_line("[0, 1, 2]", "[0.5, 0.25, 0.25]")},
      {"nan", good_trace() + token_line("[0, 1]", "[NaN, 0.5]")},
      {"negative", good_trace() + token_line("[0, -1]", "[0.5, 0.5]")},
  };
  for (const auto& [name, content] : damaged) {
    const std::string file = folder.write(name + ".jsonl", content);
    expect_refused("trace stats " + file, {file});
    expect_refused(kBench + file, {file});
    if (content.find("layer") == std::string::npos) continue;
    expect_refused("trace stats " + file, {file + ":4"});
  }
}

TEST(Trace, AFileThatIsNotThereIsNamed) {
  const Result stats = run("trace stats /nonexistent/t.jsonl");
  EXPECT_NE(stats.status, 0);
  EXPECT_NE(stats.err.find("/nonexistent/t.jsonl"), std::string::npos);
  const Result bench = run(kBench + "/nonexistent/t.jsonl");
  EXPECT_NE(bench.status, 0);
  EXPECT_NE(bench.err.find("/nonexistent/t.jsonl"), std::string::npos);
}

TEST(Trace, MoreExpertsThanTheLayerHasAreRefused) {
  const Folder folder;
  const std::string file =
      folder.write("t.jsonl", good_trace() + token_line("[0, 9]", "[0.5, 0.5]"));
  const Result result = run(kBench + file);
  EXPECT_EQ(result.status, 2) << result.err << result.out;
}

}  // namespace
}  // namespace switchyard::test
