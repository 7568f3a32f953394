#include "base/replace_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "switchyard/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

class ReplaceFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "switchyard-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string content(const std::string& name) const {
    std::ifstream in(folder_ / name, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }

  fs::path folder_;
};

TEST_F(ReplaceFile, WritesAndOverwritesWhole) {
  const std::string path = folder_ / "a";
  replace_file(path, "a long first content");
  replace_file(path, std::string_view("s\0t", 3));
  EXPECT_EQ(content("a"), std::string("s\0t", 3));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(ReplaceFile, KeepsLinks) {
  replace_file(folder_ / "target", "old");
  fs::create_symlink("target", folder_ / "link");
  replace_file(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(content("target"), "new");
}

TEST_F(ReplaceFile, SaysWhyNot) {
  try {
    replace_file(folder_ / "none" / "a", "x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_NE(std::string(error.what()).find("none/a: No such file"), std::string::npos);
  }
}

TEST_F(ReplaceFile, LeavesTheOldFileWhenItFails) {
  fs::create_directory(folder_ / "d");
  EXPECT_THROW(replace_file(folder_ / "d", "x"), Error);
  EXPECT_TRUE(fs::is_directory(folder_ / "d"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace switchyard
