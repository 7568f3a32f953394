// switchyard report, and bench --report-out. The page itself is looked at in a browser
// (tests/report) and by the tests of src/report.

#include <gtest/gtest.h>

#include <filesystem>

#include "command.h"

namespace switchyard::test {
namespace {

TEST(Report, BenchWritesThePageOfItsRecords) {
  const Folder folder;
  const std::string page = folder.file("page.html");
  const Result result =
      run("bench pack --experts 8 --top-k 2 --tokens 6,7 --hidden 16 --iters 3 --cache warm "
          "--report-out " +
          page);
  ASSERT_EQ(result.status, 0) << result.err;
  const std::string text = read_file(page);
  EXPECT_TRUE(text.starts_with("<!doctype html>") || text.starts_with("<!DOCTYPE html>"));
  EXPECT_NE(text.find("--tokens 6,7"), std::string::npos) << "its command is not there";
}

TEST(Report, NeedsFilesAndAPageToWrite) {
  const Folder folder;
  const std::string in = folder.write("foreign.jsonl", "{\"a\":1}\n");
  const std::string page = folder.file("page.html");
  for (const auto& [line, words] : std::vector<std::pair<std::string, std::string>>{
           {"report -o " + page, "FILE is required"},
           {"report " + in, "needs -o"},
           {"report " + in + " -o page.txt", ".html"},
           {"report " + in + " -o " + page, "foreign.jsonl:1: "},
           {"report " + in + ".none.jsonl -o " + page, "No such file"},
           {"bench pack --report-out page.txt", "--report-out 'page.txt'"},
       }) {
    const Result result = run(line);
    EXPECT_NE(result.status, 0) << line;
    EXPECT_NE(result.err.find(words), std::string::npos) << line << '\n' << result.err;
    EXPECT_FALSE(std::filesystem::exists(page)) << line;
  }
}

}  // namespace
}  // namespace switchyard::test
