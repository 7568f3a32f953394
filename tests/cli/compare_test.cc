// switchyard compare, on records made by hand: times must not decide a test.

#include <gtest/gtest.h>

#include "command.h"

namespace switchyard::test {
namespace {

using Json = nlohmann::json;

Json record(int tokens, double ms, const std::string& sha = "aaaa") {
  Json samples = Json::array();
  for (int i = 0; i < 12; ++i) samples.push_back(ms * (1 + 0.001 * i));
  return {{"schema", "switchyard/1"},
          {"bench", "layer"},
          {"impl", "grouped"},
          {"threads", 2},
          {"tokens", tokens},
          {"ok", true},
          {"samples_ms", samples},
          {"router_params", "a=1"},
          {"git_sha", sha}};
}

/// Two files and what `compare` says of them.
class Compare : public testing::Test {
 protected:
  Result compare(const std::vector<Json>& a, const std::vector<Json>& b,
                 const std::string& options = "") {
    return run("compare " + written("a.jsonl", a) + " " + written("b.jsonl", b) + " " + options);
  }

  std::string written(const std::string& name, const std::vector<Json>& records) {
    std::string text;
    for (const Json& r : records) text += r.dump() + '\n';
    return folder_.write(name, text);
  }

  Folder folder_;
};

TEST_F(Compare, ASlowdownIsExitStatusFour) {
  const Result result = compare({record(1, 1), record(2, 1)}, {record(1, 1), record(2, 1.2)});
  EXPECT_EQ(result.status, 4);
  EXPECT_NE(result.out.find("slower"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("2 cells: 1 slower, 0 faster, 1 same, 0 unclear"), std::string::npos)
      << result.out;
  EXPECT_EQ(compare({record(1, 1)}, {record(1, 1.2)}, "--fail-above 30%").status, 0);
  EXPECT_EQ(compare({record(1, 1.2)}, {record(1, 1)}).status, 0);
}

TEST_F(Compare, DifferencesOfTheEnvironmentComeFirst) {
  const std::string out = compare({record(1, 1, "aaaa")}, {record(1, 1, "bbbb")}).out;
  const auto at = out.find("git_sha  aaaa -> bbbb");
  ASSERT_NE(at, std::string::npos) << out;
  EXPECT_LT(at, out.find("verdict")) << out;
}

TEST_F(Compare, WhatCannotBeComparedIsListed) {
  Json failed = record(3, 1);
  failed["ok"] = false;
  failed["error"] = "it broke";
  const Result result =
      compare({record(1, 1), record(3, 1), record(4, 1)}, {record(2, 1), failed, record(4, 1)});
  EXPECT_EQ(result.status, 4) << "a cell that no longer runs is a regression";
  for (const std::string piece :
       {"only in A: bench=layer impl=grouped threads=2 tokens=1 router_params=a=1",
        "only in B: bench=layer impl=grouped threads=2 tokens=2",
        "failed in B: bench=layer impl=grouped threads=2 tokens=3 router_params=a=1: it broke"}) {
    EXPECT_NE(result.out.find(piece), std::string::npos) << result.out;
  }
}

TEST_F(Compare, FormatsAgree) {
  const std::vector<Json> a = {record(1, 1), record(5, 1)}, b = {record(1, 2, "bbbb")};
  const Json json = Json::parse(compare(a, b, "-o json").out);
  EXPECT_EQ(json["environment"]["git_sha"]["b"][0], "bbbb");
  ASSERT_EQ(json["cells"].size(), 2u);
  EXPECT_EQ(json["cells"][0]["verdict"], "slower");
  EXPECT_EQ(json["cells"][0]["ratio"], 2);
  EXPECT_EQ(json["cells"][1]["verdict"], "only in A");
  const auto lines = json_lines(compare(a, b, "-o jsonl").out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["environment"], json["environment"]);
  EXPECT_EQ(lines[1], json["cells"][0]);
  const std::string csv = compare(a, b, "-o csv").out;
  EXPECT_NE(csv.find(",verdict,"), std::string::npos) << csv;
  EXPECT_NE(csv.find(",slower,"), std::string::npos) << csv;
  EXPECT_NE(compare(a, b, "-o md").out.find("| slower |"), std::string::npos);
}

TEST_F(Compare, BadInputIsExitStatusTwo) {
  const std::string good = written("good.jsonl", {record(1, 1)});
  for (const std::string& bad : {folder_.file("none.jsonl"), folder_.write("text.jsonl", "hello\n"),
                                 folder_.write("empty.jsonl", ""), folder_.write("x.txt", "")}) {
    const Result result = run("compare " + good + " " + bad);
    EXPECT_EQ(result.status, 2) << bad;
    EXPECT_NE(result.err.find(bad), std::string::npos) << result.err;
  }
  for (const std::string options : {"--fail-above 5", "--fail-above x%", "--across median_ms"}) {
    EXPECT_EQ(run("compare " + good + " " + good + " " + options).status, 2) << options;
  }
  EXPECT_EQ(run("compare " + good).status, 2);
}

TEST_F(Compare, NothingInCommonIsSaid) {
  const Result result = compare({record(1, 1)}, {record(2, 1)});
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.err.find("--across"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace switchyard::test
