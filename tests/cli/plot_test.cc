// switchyard plot, and bench --plot-out.

#include <gtest/gtest.h>

#include <filesystem>

#include "command.h"
#include "report/report_testing.h"

namespace switchyard::test {
namespace {

class PlotCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gnuplot()) GTEST_SKIP() << "no gnuplot";
  }

  std::string records(const std::string& name = "r.jsonl") const {
    std::string lines;
    for (const int tokens : {64, 256}) {
      for (const std::string impl : {"loop", "grouped"}) {
        lines += layer_record(impl, tokens, tokens).dump() + '\n';
      }
    }
    return folder_.write(name, lines);
  }

  Folder folder_;
};

TEST_F(PlotCommand, DrawsBothFormats) {
  const std::string in = records(), png = folder_.file("a.png"), svg = folder_.file("a.svg");
  const Result result = run("plot " + in + " -k latency -o " + png);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out + result.err, "");
  EXPECT_TRUE(read_file(png).starts_with("\x89PNG"));
  EXPECT_EQ(run("plot " + in + " -k speedup --baseline impl=loop -o " + svg).status, 0);
  EXPECT_NE(read_file(svg).find("</svg>"), std::string::npos);
}

TEST_F(PlotCommand, ReadsSeveralFilesAndPartsOfThem) {
  const std::string in = records(), other = records("s.jsonl"), out = folder_.file("a.svg");
  EXPECT_EQ(run("plot " + in + " " + other + " -k throughput --where impl=loop -o " + out).status,
            0);
  EXPECT_EQ(read_file(out).find("grouped"), std::string::npos);
  EXPECT_EQ(run("plot " + in + " -k throughput --where impl=none -o " + out).status, 2);
}

TEST_F(PlotCommand, DrawsALoadWithoutRecords) {
  const std::string out = folder_.file("load.svg");
  const Result result =
      run("plot load --routing zipf:1 --experts 8 --top-k 2 --tokens 32 -o " + out);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(read_file(out).find("<image"), std::string::npos);
}

TEST_F(PlotCommand, BenchDrawsWhatItMeasured) {
  const std::string out = folder_.file("perm.svg"), csv = folder_.file("perm.csv");
  const std::string line =
      "bench perm --seq-len 4 --batch-sizes 1,2 --hidden 64 --experts 8 --top-k 2 --iters 2 "
      "--cache warm --impl counting,sort --out " +
      csv + " --plot-out " + out;
  const Result result = run(line);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(read_file(out).find("batch size"), std::string::npos);
  std::filesystem::remove(out);
  EXPECT_EQ(run(line + " --resume").status, 0) << "what the file holds is drawn";
  EXPECT_TRUE(std::filesystem::exists(out));
}

TEST_F(PlotCommand, RefusesWithASentence) {
  const std::string in = records(), out = " -o " + folder_.file("a.svg");
  const std::string torn = folder_.write("torn.jsonl", "{\"schema\":\"switch");
  const std::string foreign = folder_.write("foreign.jsonl", "{\"a\":1}\n");
  for (const auto& [line, words] : std::vector<std::pair<std::string, std::string>>{
           {"plot " + in + out, "needs a kind"},
           {"plot " + in + " -k latenzy" + out, "did you mean latency?"},
           {"plot " + in + " -k latency", "needs -o"},
           {"plot " + in + " -k latency -o a.jpg", ".png or .svg"},
           {"plot -k latency" + out, "needs a file"},
           {"plot " + in + " -k speedup" + out, "--baseline"},
           {"plot " + in + " -k throughput --x impl" + out, "numeric"},
           {"plot " + in + " -k latency --routing uniform" + out, "kind load"},
           {"plot " + torn + " -k latency" + out, "no records"},
           {"plot " + foreign + " -k latency" + out, "foreign.jsonl:1: "},
           {"plot " + in + ".none.jsonl -k latency" + out, "No such file"},
       }) {
    const Result result = run(line);
    EXPECT_NE(result.status, 0) << line;
    EXPECT_NE(result.err.find(words), std::string::npos) << line << '\n' << result.err;
    EXPECT_FALSE(std::filesystem::exists(folder_.file("a.svg"))) << line;
  }
}

TEST(PlotWithoutGnuplot, SaysHowToGetIt) {
  const Folder folder;
  const std::string in = folder.write("r.jsonl", layer_record("loop", 64, 2).dump() + '\n');
  const Setting nowhere = {{{"PATH", "/nonexistent"}}, ""};
  const Result result = run("plot " + in + " -k latency -o " + folder.file("a.png"), nowhere);
  EXPECT_EQ(result.status, 5);
  EXPECT_NE(result.err.find("apt install gnuplot-nox"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::test
