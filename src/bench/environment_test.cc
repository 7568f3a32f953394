#include "bench/environment.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

namespace switchyard {
namespace {

namespace fs = std::filesystem;

TEST(Environment, TimestampIsIso8601) {
  EXPECT_TRUE(std::regex_match(timestamp_now(), std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")));
}

TEST(Environment, CommandsCanBePastedBack) {
  const char* const arguments[] = {"switchyard", "bench", "--tokens", "1,64:128:*2", "it's", ""};
  EXPECT_EQ(command_line(arguments), R"(switchyard bench --tokens '1,64:128:*2' 'it'\''s' '')");
}

TEST(Environment, HugePages) {
  std::string pattern = (fs::temp_directory_path() / "switchyard_env.XXXXXX").string();
  const fs::path root = ::mkdtemp(pattern.data());
  EXPECT_EQ(huge_page_state(root), "unknown");
  fs::create_directories(root / "sys/kernel/mm/transparent_hugepage");
  std::ofstream(root / "sys/kernel/mm/transparent_hugepage/enabled") << "always [madvise] never\n";
  EXPECT_EQ(huge_page_state(root), "madvise");
  fs::remove_all(root);
}

TEST(Environment, FieldsAreTheSchemas) {
  Record record = Record::object();
  add_environment(record, "switchyard bench layer");
  EXPECT_EQ(in_schema_order(record), record);
  for (const auto* field :
       {"schema", "version", "git_sha", "git_dirty", "timestamp", "cpu", "compiler", "command"}) {
    EXPECT_TRUE(record.contains(field)) << field;
  }
  Record without = Record::object();
  add_environment(without, "");
  EXPECT_FALSE(without.contains("command"));
}

}  // namespace
}  // namespace switchyard
