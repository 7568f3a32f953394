#include "command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace switchyard::test {
namespace {

void redirect(int fd, const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (file < 0 || dup2(file, fd) < 0) _exit(127);
  close(file);
}

void set_stdout(const std::string& to, const std::string& captured) {
  if (to == "closed") {
    close(STDOUT_FILENO);
  } else if (to == "unread") {
    int ends[2];
    if (pipe(ends) != 0 || dup2(ends[1], STDOUT_FILENO) < 0) _exit(127);
    close(ends[0]);
    close(ends[1]);
  } else {
    redirect(STDOUT_FILENO, to.empty() ? captured : to);
  }
}

/// One cache of measured ceilings for all runs of the test program, none of the user's.
const Folder& cache_folder() {
  static const Folder folder;
  return folder;
}

}  // namespace

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "switchyard-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Folder::write(const std::string& name, const std::string& content) const {
  std::ofstream(file(name), std::ios::binary) << content;
  return file(name);
}

Process::Process(const std::vector<std::string>& args, const Setting& setting) {
  const std::string cache = cache_folder().file("cache");
  pid_ = fork();
  if (pid_ != 0) return;
  setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  for (const auto& [name, value] : setting.environment) setenv(name.c_str(), value.c_str(), 1);
  set_stdout(setting.stdout_to, folder_.file("out"));
  redirect(STDERR_FILENO, folder_.file("err"));
  std::vector<char*> argv = {const_cast<char*>("switchyard")};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  execv(SWITCHYARD_COMMAND, argv.data());
  _exit(127);
}

void Process::signal(int number) const { kill(pid_, number); }

bool Process::has_ended() const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

Result Process::wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          read_file(folder_.file("out")), read_file(folder_.file("err"))};
}

Result run(const std::vector<std::string>& args, const Setting& setting) {
  return Process(args, setting).wait();
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(in, line);) out.push_back(nlohmann::json::parse(line));
  return out;
}

}  // namespace switchyard::test
