#include "bench/sinks.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "switchyard/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

class Sinks : public testing::Test {
 protected:
  Sinks() {
    std::string pattern = (fs::temp_directory_path() / "switchyard_sinks.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Sinks() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  static std::string read(const std::string& name) {
    std::ostringstream out;
    out << std::ifstream(name, std::ios::binary).rdbuf();
    return out.str();
  }
  static void write(const std::string& name, const std::string& text, bool append = false) {
    std::ofstream(name, append ? std::ios::app : std::ios::trunc) << text;
  }

  fs::path folder_;
};

Record sample_record(int tokens) {
  return {{"schema", "switchyard/1"},
          {"bench", "pack"},
          {"impl", "counting"},
          {"tokens", tokens},
          {"routing", "trace:a,\"b\".jsonl"},
          {"ok", true},
          {"samples_ms", {1.5, 0.1, 1e-7}},
          {"median_ms", 0.1},
          {"git_dirty", false},
          {"memory_bytes", 1234567}};
}

std::string message_of(const std::function<void()>& call, ErrorCode code) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "nothing was thrown";
}

TEST_F(Sinks, EveryFormatReadsBack) {
  for (const auto* name : {"a.json", "a.jsonl", "a.csv"}) {
    std::vector<Record> written;
    for (int run = 0; run < 2; ++run) {  // the second run appends
      RecordFile file(path(name));
      for (int i = 0; i < 3; ++i) {
        written.push_back(sample_record(10 * run + i));
        file.append(written.back());
      }
    }
    std::int64_t num_torn = -1;
    EXPECT_EQ(read_records(path(name), &num_torn), written) << name;
    EXPECT_EQ(num_torn, 0);
  }
}

TEST_F(Sinks, JsonIsAnArrayAfterEachAppend) {
  RecordFile file(path("a.json"));
  EXPECT_EQ(Record::parse(read(path("a.json"))).size(), 0u);
  for (std::size_t i = 1; i <= 3; ++i) {
    file.append(sample_record(1));
    EXPECT_EQ(Record::parse(read(path("a.json"))).size(), i);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "a file was left aside";
}

TEST_F(Sinks, JsonReplacesTheFileBehindALink) {
  write(path("real.json"), "[]");
  fs::create_symlink(path("real.json"), path("link.json"));
  RecordFile(path("link.json")).append(sample_record(1));
  EXPECT_TRUE(fs::is_symlink(path("link.json")));
  EXPECT_EQ(read_records(path("real.json")).size(), 1u);
}

TEST_F(Sinks, TornRowsAreSkippedAndCounted) {
  for (const auto* name : {"a.jsonl", "a.csv"}) {
    RecordFile(path(name)).append(sample_record(1));
    const std::string row =
        name[2] == 'j' ? jsonl_row(sample_record(2)) : csv_row(sample_record(2));
    write(path(name), row.substr(0, row.size() / 2), true);
    std::int64_t num_torn = 0;
    EXPECT_EQ(read_records(path(name), &num_torn).size(), 1u) << name;
    EXPECT_EQ(num_torn, 1);
    RecordFile(path(name)).append(sample_record(3));
    const auto records = read_records(path(name), &num_torn);
    ASSERT_EQ(records.size(), 2u) << name;
    EXPECT_EQ(records[1], sample_record(3));
    EXPECT_EQ(num_torn, 0) << "the torn row was cut off";
  }
}

// Wherever a write was cut, the rows before it stay and the next run's rows follow them.
TEST_F(Sinks, AFileCutAnywhereGoesOn) {
  for (const std::string name : {"a.jsonl", "a.csv"}) {
    RecordFile(path(name)).append(sample_record(1));
    const std::string whole = read(path(name));
    std::vector<std::size_t> sizes = {whole.size() - 2, whole.size() - 1, whole.size()};
    for (std::size_t size = 0; size < whole.size(); size += 41) sizes.push_back(size);
    for (const std::size_t size : sizes) {
      write(path(name), whole.substr(0, size));
      const std::size_t num_before = read_records(path(name)).size();
      RecordFile(path(name)).append(sample_record(2));
      std::int64_t num_torn = 0;
      const auto records = read_records(path(name), &num_torn);
      ASSERT_EQ(records.size(), num_before + 1) << name << " cut at " << size;
      EXPECT_EQ(records.back(), sample_record(2));
      EXPECT_EQ(num_torn, 0) << name << " cut at " << size;
    }
  }
}

TEST_F(Sinks, TornRowsInTheMiddleAreSkipped) {
  write(path("a.jsonl"),
        jsonl_row(sample_record(1)) + "{\"schema\":\"switch\n" + jsonl_row(sample_record(2)));
  std::int64_t num_torn = 0;
  EXPECT_EQ(read_records(path("a.jsonl"), &num_torn).size(), 2u);
  EXPECT_EQ(num_torn, 1);
}

TEST_F(Sinks, JsonOverwritesWhatAKilledRunLeftAside) {
  write(path("a.json.tmp"), "[\n{\"sch");
  RecordFile(path("a.json")).append(sample_record(1));
  EXPECT_EQ(read_records(path("a.json")).size(), 1u);
  EXPECT_FALSE(fs::exists(path("a.json.tmp")));
}

TEST_F(Sinks, TwoRunsCannotWriteOneFile) {
  for (const auto* name : {"a.jsonl", "a.csv"}) {
    const RecordFile first(path(name));
    EXPECT_EQ(message_of([&] { RecordFile second(path(name)); }, ErrorCode::io),
              "could not write " + path(name) + ": another run is writing it");
  }
}

TEST_F(Sinks, TornInsideQuotes) {
  RecordFile(path("a.csv")).append(sample_record(1));
  const std::string row = csv_row(sample_record(2));
  write(path("a.csv"), row.substr(0, row.find("trace") + 3), true);
  RecordFile(path("a.csv")).append(sample_record(3));
  EXPECT_EQ(read_records(path("a.csv")).back(), sample_record(3));
}

TEST_F(Sinks, OddBytesInStrings) {
  Record record = sample_record(1);
  record["host"] = "\xff\xfe";
  record["command"] = "a\nb";
  for (const auto* name : {"a.json", "a.jsonl", "a.csv"}) {
    RecordFile(path(name)).append(record);
    EXPECT_EQ(read_records(path(name)).size(), 1u) << name;
  }
}

TEST_F(Sinks, FullDiskIsAnErrorWithTheSystemsReason) {
  if (!fs::exists("/dev/full")) GTEST_SKIP();
  fs::create_symlink("/dev/full", path("a.jsonl"));
  RecordFile file(path("a.jsonl"));
  EXPECT_EQ(message_of([&] { file.append(sample_record(1)); }, ErrorCode::io),
            "could not write " + path("a.jsonl") + ": No space left on device");
}

TEST_F(Sinks, UnwritablePathsAreKnownAtOnce) {
  for (const auto* name : {"none/a.json", "none/a.jsonl", "none/a.csv", "none/a.md"}) {
    EXPECT_EQ(message_of([&] { RecordFile file(path(name)); }, ErrorCode::io),
              "could not write " + path(name) + ": No such file or directory");
  }
  EXPECT_EQ(message_of([&] { RecordFile file(path("a.txt")); }, ErrorCode::invalid_argument),
            "output file '" + path("a.txt") +
                "' does not say its format: expected a name that ends in .json, .jsonl, .csv or "
                ".md");
  fs::create_directory(path("d.jsonl"));
  EXPECT_EQ(message_of([&] { RecordFile file(path("d.jsonl")); }, ErrorCode::io),
            "could not write " + path("d.jsonl") + ": Is a directory");
}

TEST_F(Sinks, OtherFilesAreLeftAlone) {
  write(path("a.csv"), "x,y\n1,2\n");
  EXPECT_NE(message_of([&] { RecordFile file(path("a.csv")); }, ErrorCode::invalid_data)
                .find("a.csv:1: the header is not"),
            std::string::npos);
  EXPECT_EQ(read(path("a.csv")), "x,y\n1,2\n");
  write(path("b.csv"), "x,y");
  EXPECT_THROW(RecordFile(path("b.csv")), Error);
  EXPECT_EQ(read(path("b.csv")).substr(0, 3), "x,y");
  write(path("b.jsonl"), "some text");
  RecordFile(path("b.jsonl")).append(sample_record(1));
  EXPECT_EQ(read(path("b.jsonl")), "some text\n" + jsonl_row(sample_record(1)));
  write(path("a.json"), "{\"a\": 1}");
  EXPECT_EQ(message_of([&] { RecordFile file(path("a.json")); }, ErrorCode::invalid_data),
            path("a.json") + ":1: not a JSON array of records");
  EXPECT_EQ(read(path("a.json")), "{\"a\": 1}");
}

TEST_F(Sinks, BadContentNamesFileAndLine) {
  const auto reading = [&](const std::string& name, const std::string& text) {
    write(path(name), text);
    return message_of([&] { read_records(path(name)); }, ErrorCode::invalid_data);
  };
  EXPECT_EQ(reading("a.jsonl", jsonl_row(sample_record(1)) + "hello\n"),
            path("a.jsonl") + ":2: not a JSON object");
  EXPECT_EQ(reading("a.jsonl", "\n{\"schema\":\"switchyard/1\",\"tokens\":\"x\"}\n"),
            path("a.jsonl") + ":2: record field tokens is a string: expected an integer");
  EXPECT_EQ(reading("a.jsonl", "{\"schema\":\"other\"}\n"),
            path("a.jsonl") + ":1: schema is 'other': expected switchyard/1");
  EXPECT_EQ(reading("a.csv", "schema,tokens\nswitchyard/1,many\n"),
            path("a.csv") + ":2: tokens is 'many': expected integer");
  EXPECT_EQ(reading("a.csv", "schema,tokens\nswitchyard/1,1,2\n"),
            path("a.csv") + ":2: 3 cells: expected 2");
  EXPECT_EQ(reading("a.csv", "schema,colour\n"),
            path("a.csv") + ":1: column 'colour' is not a field of a record");
  EXPECT_EQ(reading("a.json", "[\n"), path("a.json") + ":2: not a JSON array");
  EXPECT_EQ(reading("a.json", ""), path("a.json") + ":1: not a JSON array");
  EXPECT_EQ(reading("a.jsonl", std::string("\x7f"
                                           "ELF\0\0\0",
                                           7)),
            path("a.jsonl") + ":1: not a JSON object");
}

TEST_F(Sinks, UnreadablePaths) {
  EXPECT_EQ(message_of([&] { read_records(path("a.jsonl")); }, ErrorCode::io),
            "could not read " + path("a.jsonl") + ": No such file or directory");
  fs::create_directory(path("d.csv"));
  EXPECT_EQ(message_of([&] { read_records(path("d.csv")); }, ErrorCode::io),
            "could not read " + path("d.csv") + ": Is a directory");
  write(path("a.jsonl"), "");
  EXPECT_TRUE(read_records(path("a.jsonl")).empty());
}

TEST_F(Sinks, MarkdownFilesGrow) {
  for (int run = 0; run < 2; ++run) RecordFile(path("a.md")).append(sample_record(run));
  const std::string text = read(path("a.md"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_TRUE(text.starts_with("| bench |"));
}

TEST(RecordFormats, Names) {
  EXPECT_EQ(record_format_from_name("csv"), RecordFormat::csv);
  EXPECT_THROW(record_format_from_name("xml"), Error);
  EXPECT_EQ(record_format_of_path("x.tar.jsonl"), RecordFormat::jsonl);
}

TEST(RecordFormats, Documents) {
  const std::vector<Record> records = {sample_record(1), sample_record(2)};
  EXPECT_EQ(Record::parse(format_records(records, RecordFormat::json)).size(), 2u);
  EXPECT_EQ(format_records(records, RecordFormat::jsonl),
            jsonl_row(records[0]) + jsonl_row(records[1]));
  EXPECT_EQ(format_records(records, RecordFormat::csv),
            csv_header() + csv_row(records[0]) + csv_row(records[1]));
  EXPECT_EQ(Record::parse(format_records({}, RecordFormat::json)), Record::array());
}

}  // namespace
}  // namespace switchyard
