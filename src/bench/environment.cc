#include "bench/environment.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <string_view>

#include "base/cpu.h"
#include "switchyard/version.h"

namespace switchyard {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-_./:,=+@%").find(c) != std::string_view::npos;
}

std::string quoted(std::string_view argument) {
  if (!argument.empty() && std::all_of(argument.begin(), argument.end(), is_plain)) {
    return std::string(argument);
  }
  std::string out = "'";
  for (const char c : argument) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

std::string timestamp_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string huge_page_state(const std::string& root) {
  // "always [madvise] never": the one in brackets is chosen.
  std::ifstream in(root + "/sys/kernel/mm/transparent_hugepage/enabled");
  for (std::string word; in >> word;) {
    if (word.size() > 2 && word.front() == '[' && word.back() == ']') {
      return word.substr(1, word.size() - 2);
    }
  }
  return "unknown";
}

std::string command_line(std::span<const char* const> arguments) {
  std::string line;
  for (const char* argument : arguments) {
    if (!line.empty()) line += ' ';
    line += quoted(argument);
  }
  return line;
}

void add_environment(Record& record, const std::string& command) {
  record["schema"] = "switchyard/1";
  record["version"] = version();
  record["git_sha"] = git_sha();
  record["git_dirty"] = git_is_dirty();
  record["timestamp"] = timestamp_now();
  if (const std::string host = host_name(); !host.empty()) record["host"] = host;
  record["cpu"] = cpu_name();
  record["compiler"] = compiler();
  if (!command.empty()) record["command"] = command;
}

}  // namespace switchyard
