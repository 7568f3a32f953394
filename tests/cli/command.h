#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace switchyard::test {

/// How the command ended.
struct Result {
  int status = -1;  ///< exit status, or 128 + signal
  std::string out;
  std::string err;
};

struct Setting {
  std::map<std::string, std::string> environment;  ///< beside the test's own
  /// Standard output: empty is captured, "closed" is closed, "unread" is a pipe nobody reads,
  /// anything else is a file.
  std::string stdout_to;
};

/// A folder that goes with the object.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const;

 private:
  std::filesystem::path path_;
};

/// The command, running.
class Process {
 public:
  Process(const std::vector<std::string>& args, const Setting& setting = {});

  void signal(int number) const;
  bool has_ended() const;
  Result wait();

 private:
  Folder folder_;
  pid_t pid_ = -1;
};

Result run(const std::vector<std::string>& args, const Setting& setting = {});

/// "bench layer --tokens 4" cut at blanks, for arguments that hold none.
std::vector<std::string> words(const std::string& line);
inline Result run(const std::string& line, const Setting& setting = {}) {
  return run(words(line), setting);
}

std::string read_file(const std::string& path);
std::vector<nlohmann::json> json_lines(const std::string& text);

}  // namespace switchyard::test
