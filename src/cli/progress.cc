#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/output.h"

namespace switchyard::cli {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{250};
constexpr std::chrono::seconds kPlainInterval{5};

std::string clock_of(long seconds) {
  if (seconds >= 3600) return fmt::format("{} h {:02} min", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

}  // namespace

Progress::Progress(std::size_t total)
    : on_terminal_(isatty(STDERR_FILENO) == 1),
      total_(total),
      start_(Clock::now()),
      last_(start_) {}

void Progress::begin(std::string_view what) {
  what_ = what;
  const auto now = Clock::now();
  if (on_terminal_) {
    draw(now);
  } else if (now - last_ >= kPlainInterval) {
    message(line(now));
    last_ = now;
  }
}

void Progress::tick() {
  const auto now = Clock::now();
  if (on_terminal_ && now - last_ >= kRedrawInterval) draw(now);
}

void Progress::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void Progress::draw(Clock::time_point now) {
  std::fputs(fmt::format("\r\033[K{}", line(now)).c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
  last_ = now;
}

std::string Progress::line(Clock::time_point now) const {
  return fmt::format("[{}/{}] {}  {}", done_ + 1, total_, what_, eta(now));
}

std::string Progress::eta(Clock::time_point now) const {
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  if (done_ == 0) return clock_of(static_cast<long>(elapsed));
  const double each = elapsed / static_cast<double>(done_);
  return "ETA " + clock_of(static_cast<long>(each * static_cast<double>(total_ - done_)));
}

}  // namespace switchyard::cli
