#include "report/gnuplot.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace switchyard {
namespace {

/// A file without a name: gone when closed. Files rather than pipes, so that neither side waits for
/// the other, whatever the sizes.
class Scratch {
 public:
  Scratch() : file_(std::tmpfile(), &std::fclose) {
    if (!file_) throw_io("make a temporary file", errno);
  }

  int descriptor() const { return ::fileno(file_.get()); }

  void write(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() ||
        std::fflush(file_.get()) != 0) {
      throw_io("write a temporary file", errno);
    }
    std::rewind(file_.get());
  }

  std::string content() {
    std::string text;
    char buffer[1 << 16];
    std::rewind(file_.get());
    while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, file_.get())) {
      text.append(buffer, count);
    }
    return text;
  }

  [[noreturn]] static void throw_io(std::string_view what, int error) {
    throw Error(ErrorCode::io, fmt::format("could not {}: {}", what, std::strerror(error)));
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

class FileActions {
 public:
  FileActions(int in, int out, int err) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions_, err, STDERR_FILENO);
  }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;

  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

int status_of_child(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) Scratch::throw_io("wait for gnuplot", errno);
  }
  return status;
}

/// The first lines that say something.
std::string first_words(const std::string& text) {
  constexpr std::size_t kMost = 300;
  std::string words;
  for (const char c : text) {
    const bool is_blank = c == '\n' || c == ' ' || c == '\t';
    if (!is_blank) {
      words += c;
    } else if (!words.empty() && words.back() != ' ') {
      words += ' ';
    }
    if (words.size() >= kMost) return words + "...";
  }
  return words;
}

}  // namespace

std::string run_gnuplot(const std::string& script) {
  constexpr int kNotFound = 127;  // what a spawned child that could not execute exits with
  Scratch in, out, err;
  in.write(script);
  const FileActions actions(in.descriptor(), out.descriptor(), err.descriptor());
  char name[] = "gnuplot", no_user_settings[] = "-d";
  char* const arguments[] = {name, no_user_settings, nullptr};
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, name, actions.get(), nullptr, arguments, environ);
  const int status = error == 0 ? status_of_child(child) : 0;
  if (error == ENOENT || (WIFEXITED(status) && WEXITSTATUS(status) == kNotFound)) {
    throw Error(ErrorCode::unavailable,
                "gnuplot draws the pictures and is not installed: apt install gnuplot-nox");
  }
  if (error != 0) Scratch::throw_io("start gnuplot", error);
  std::string image = out.content();
  if (status != 0 || image.empty()) {
    const std::string words = first_words(err.content());
    const std::string end = WIFSIGNALED(status)
                                ? fmt::format("signal {}", WTERMSIG(status))
                                : fmt::format("exit status {}", WEXITSTATUS(status));
    throw Error(ErrorCode::io,
                fmt::format("gnuplot failed with {}{}{}", end, words.empty() ? "" : ": ", words));
  }
  return image;
}

}  // namespace switchyard
