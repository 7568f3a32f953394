// Sweeps: what they leave behind however they end, and how they are told what to measure.

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "command.h"

namespace switchyard::test {
namespace {

using Json = nlohmann::json;

const std::string kQuick = " --iters 3 --warmup 1 --cache warm ";
const std::string kShape = " --experts 8 --top-k 2 ";

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The lines of `bench ... --list`.
std::vector<std::string> list(const std::string& line) {
  const Result result = run(line + " --list");
  EXPECT_EQ(result.status, 0) << line << '\n' << result.err;
  return lines_of(result.out);
}

/// How often the file has each number of tokens. CSV: the column of that name.
std::map<std::string, int> counts_of_tokens(const std::string& path) {
  std::map<std::string, int> counts;
  const std::string text = read_file(path);
  if (path.ends_with(".json")) {
    for (const Json& record : Json::parse(text)) ++counts[record["tokens"].dump()];
  } else if (path.ends_with(".jsonl")) {
    for (const Json& record : json_lines(text)) ++counts[record["tokens"].dump()];
  } else {
    const std::vector<std::string> lines = lines_of(text);
    const auto column_of = [](const std::string& line, const std::string& name) {
      return std::count(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(line.find(name)),
                        ',');
    };
    const auto column = column_of(lines[0], ",tokens,") + 1;
    const auto num_columns = std::count(lines[0].begin(), lines[0].end(), ',');
    for (std::size_t i = 1; i < lines.size(); ++i) {
      EXPECT_EQ(std::count(lines[i].begin(), lines[i].end(), ','), num_columns) << lines[i];
      std::istringstream in(lines[i]);
      std::string cell;
      for (std::ptrdiff_t c = 0; c <= column; ++c) std::getline(in, cell, ',');
      ++counts[cell];
    }
  }
  return counts;
}

/// Starts the sweep again and again, each time killed at a random moment, until one ends by itself;
/// the eleventh may.
/// Two in three may first write a row, so that it does end; then the moment is within the next few
/// cells, otherwise anywhere from the start of the program. Returns how many were killed.
int kill_until_done(const std::string& line, const std::string& out, std::mt19937& random) {
  const auto random_ms = [&](double most) {
    return std::chrono::duration<double, std::milli>(
        std::uniform_real_distribution<>(0, most)(random));
  };
  for (int killed = 0;; ++killed) {
    const std::size_t size = read_file(out).size();
    Process process(words(line));
    if (random() % 3 == 0) {
      std::this_thread::sleep_for(random_ms(40));
    } else {
      while (!process.has_ended() && read_file(out).size() <= size) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      std::this_thread::sleep_for(random_ms(15));
    }
    // Nothing happens to one that has ended but not been waited for.
    if (killed < 10) process.signal(SIGKILL);
    const Result result = process.wait();
    if (result.status == 0) return killed;
    EXPECT_EQ(result.status, 128 + SIGKILL) << result.err;
    if (result.status != 128 + SIGKILL) return killed;
  }
}

TEST(Sweep, ListShowsEachCellsLineAndFilterMatchesIt) {
  const std::string line = "bench topk --tokens 2,22,3 --seed 1,2" + kShape;
  const auto all = list(line);
  ASSERT_EQ(all.size(), 6u);
  EXPECT_EQ(all[0].rfind("bench=topk impl=", 0), 0u) << all[0];
  EXPECT_NE(all[0].find(" tokens=2 experts=8 top_k=2 "), std::string::npos) << all[0];
  EXPECT_EQ(list(line + " --filter tokens=2").size(), 4u);
  EXPECT_EQ(list(line + " --filter tokens=2\\b.*seed=2").size(), 1u);
  const Result none = run(line + " --filter tokens=4");
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.err.find("matches no cell"), std::string::npos) << none.err;
  EXPECT_EQ(run(line + " --filter (").status, 2);
}

TEST(Sweep, WhatIsAskedForTwiceIsMeasuredOnce) {
  EXPECT_EQ(list("bench topk --tokens 2,2,3 --ffn 7,8" + kShape).size(), 2u);
}

TEST(Sweep, FailedCellsAreResumedOnlyWhenAskedFor) {
  const Folder folder;
  const std::string out = folder.file("r.jsonl");
  const std::string line = "bench topk --tokens 2,3 --n-group 1,3 --strategy group_limited" +
                           kShape + kQuick + " --out " + out;
  EXPECT_EQ(run(line).status, 2);
  EXPECT_EQ(json_lines(read_file(out)).size(), 4u);
  const Result again = run(line + " --resume");
  EXPECT_EQ(again.status, 2) << "a sweep in parts ends as one in one go";
  EXPECT_NE(again.err.find("2 failed"), std::string::npos) << again.err;
  EXPECT_EQ(json_lines(read_file(out)).size(), 4u);
  EXPECT_EQ(run(line + " --resume --retry-failed").status, 2);
  EXPECT_EQ(json_lines(read_file(out)).size(), 6u);
}

TEST(Suite, LinesAreMeasuredWithTheCommandsOptionsOnTop) {
  const Folder folder;
  const std::string suite =
      folder.write("s.txt",
                   "# a comment\n"
                   "\n"
                   "topk --num_tokens 2,3 --experts 8 --top-k 2 # here too\n"
                   "pack --tokens 4 --hidden 16 --experts '8' --top-k 2 --seed 1,2\n");
  const std::string line = "bench --suite " + suite;
  EXPECT_EQ(list(line).size(), 4u);
  EXPECT_EQ(list(line + " --tokens 5").size(), 3u) << "an alias is the same option";
  EXPECT_EQ(list(line + " --seed 3").size(), 3u);
  EXPECT_EQ(list(line + " --filter bench=pack").size(), 2u);
  const std::string out = folder.file("r.jsonl");
  EXPECT_EQ(run(line + kQuick + "--out " + out + " --filter bench=topk").status, 0);
  const Result rest = run(line + kQuick + "--out " + out + " --resume -o jsonl");
  EXPECT_EQ(rest.status, 0) << rest.err;
  const auto records = json_lines(rest.out);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0]["bench"], "pack");
  EXPECT_EQ(records[0]["samples_ms"].size(), 3u);
  EXPECT_EQ(records[0]["cold"], false);
}

TEST(Suite, ErrorsNameFileAndLine) {
  const Folder folder;
  const std::map<std::string, std::string> mistakes = {
      {"topk --tokens 2\nlayers --tokens 2\n", "s.txt:2: unknown bench target 'layers'"},
      {"topk --tokns 2\n", "s.txt:1: unknown option '--tokns' (did you mean --tokens?)"},
      {"topk --tokens x\n", "s.txt:1: "},
      {"\ntopk --routing 'uniform\n", "s.txt:2: a quote is not closed"},
      {"topk --out x.jsonl\n", "s.txt:1: --out belongs on the command line"},
      {"topk --resume\n", "s.txt:1: --resume belongs on the command line"},
      {"topk --help\n", "s.txt:1: --help has no place"},
      {"--tokens 2\n", "s.txt:1: bench needs a target"},
      {"topk extra\n", "s.txt:1: unexpected argument 'extra'"},
      {"# nothing\n", "s.txt has no benchmark"},
  };
  for (const auto& [text, error] : mistakes) {
    const Result result = run("bench --suite " + folder.write("s.txt", text) + " --list");
    EXPECT_EQ(result.status, 2) << text;
    EXPECT_NE(result.err.find(error), std::string::npos) << text << result.err;
  }
  EXPECT_EQ(run("bench --suite " + folder.file("none.txt")).status, 1);
  EXPECT_EQ(run("bench topk --suite " + folder.write("s.txt", "topk\n")).status, 2);
  const Result unknown = run("bench --suite no_such_suite");
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.err.find("no_such_suite"), std::string::npos) << unknown.err;
}

TEST(Suite, EverySuiteOfTheRepositoryExpands) {
  int num_suites = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(SWITCHYARD_SOURCE_DIR "/bench/suites")) {
    const std::string line = "bench --suite " + entry.path().string();
    const auto cells = list(line);
    EXPECT_FALSE(cells.empty()) << line;
    const Result costs = run(line + " --dry-run -o jsonl");
    EXPECT_EQ(costs.status, 0) << line << '\n' << costs.err;
    EXPECT_EQ(lines_of(costs.out).size(), cells.size()) << line;
    ++num_suites;
  }
  EXPECT_GE(num_suites, 1);
}

TEST(Suite, TheQuickOneRuns) {
  const Result result = run("bench --suite " SWITCHYARD_SOURCE_DIR
                            "/bench/suites/quick.txt --iters 2 --warmup 1 --cache warm -o jsonl");
  std::set<std::string> targets;
  for (const Json& record : json_lines(result.out)) {
    targets.insert(record["bench"]);
    EXPECT_TRUE(record["ok"].get<bool>()) << record;
  }
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_GE(targets.size(), 7u);
}

TEST(Sweep, KilledAtAnyMomentItResumesWithoutDuplicatesOrTornRows) {
  std::mt19937 random(17);
  constexpr int kCells = 32;
  const std::string line =
      "bench topk --tokens 1:32:+1 --min-time 0 --timeout 0.005 --cache warm --resume" + kShape +
      "--out ";
  run("bench topk --tokens 1 --iters 1");  // measures the limits, which the killed could never do
  for (const std::string suffix : {".jsonl", ".csv", ".json"}) {
    const Folder folder;
    const std::string out = folder.file("r" + suffix);
    RecordProperty("killed" + suffix, kill_until_done(line + out, out, random));
    const auto counts = counts_of_tokens(out);
    EXPECT_EQ(counts.size(), static_cast<std::size_t>(kCells)) << suffix;
    for (const auto& [tokens, count] : counts) EXPECT_EQ(count, 1) << suffix << " T=" << tokens;
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.file("")), {}), 1)
        << "a file was left aside";
  }
}

}  // namespace
}  // namespace switchyard::test
