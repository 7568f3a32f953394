#include "cli/suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "base/check.h"

namespace switchyard::cli {
namespace {

namespace fs = std::filesystem;

/// Where suites without a path are looked for.
std::vector<fs::path> suite_folders() {
  std::vector<fs::path> folders = {fs::path("bench") / "suites"};
  std::error_code error;
  const fs::path command = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    folders.push_back((command.parent_path() / SWITCHYARD_SHARE / "suites").lexically_normal());
  }
  return folders;
}

std::vector<std::string> suite_names() {
  std::set<std::string> names;
  for (const fs::path& folder : suite_folders()) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".txt") names.insert(entry.path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/// Nothing when a quote is not closed.
std::optional<std::vector<std::string>> words_of(std::string_view line) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < line.size();) {
    if (is_blank(line[i])) {
      ++i;
      continue;
    }
    if (line[i] == '#') break;
    std::string& word = words.emplace_back();
    for (; i < line.size() && !is_blank(line[i]); ++i) {
      if (line[i] != '\'' && line[i] != '"') {
        word += line[i];
        continue;
      }
      const std::size_t end = line.find(line[i], i + 1);
      if (end == std::string_view::npos) return std::nullopt;
      word += line.substr(i + 1, end - i - 1);
      i = end;
    }
  }
  return words;
}

}  // namespace

std::string suite_path(std::string_view name) {
  if (name.find_first_of("/.") != std::string_view::npos) return std::string(name);
  for (const fs::path& folder : suite_folders()) {
    std::error_code error;
    const fs::path path = folder / fmt::format("{}.txt", name);
    if (fs::exists(path, error)) return path.string();
  }
  const std::vector<std::string> found = suite_names();
  const std::vector<std::string_view> names(found.begin(), found.end());
  require(!names.empty(), "no suite '{}': neither bench/suites here nor {} has any; give a path",
          name, suite_folders().back().string());
  throw Error(ErrorCode::invalid_argument, unknown_name("suite", name, names));
}

std::vector<SuiteLine> read_suite(const std::string& path) {
  std::ifstream in(path);
  std::vector<SuiteLine> lines;
  std::string text;
  for (int number = 1; in && std::getline(in, text); ++number) {
    const std::string place = fmt::format("{}:{}", path, number);
    auto words = words_of(text);
    if (!words) throw Error(ErrorCode::invalid_data, place + ": a quote is not closed");
    if (!words->empty()) lines.push_back({place, std::move(*words)});
  }
  if (!in.eof() || in.bad()) {
    throw Error(ErrorCode::io, fmt::format("could not read {}: {}", path,
                                           std::strerror(errno != 0 ? errno : EIO)));
  }
  if (lines.empty()) {
    throw Error(ErrorCode::invalid_data, fmt::format("{} has no benchmark: expected lines such as "
                                                     "'layer --config olmoe --tokens 64'",
                                                     path));
  }
  return lines;
}

}  // namespace switchyard::cli
