#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace switchyard::cli {

/// Says on standard error what is running and when all will be done: on a terminal as one line that
/// is redrawn, elsewhere as plain lines, one for each thing that begins but not oftener than every
/// few seconds, so that the log of a quick sweep stays empty.
class Progress {
 public:
  explicit Progress(std::size_t total);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void begin(std::string_view what);
  /// Redraws, a few times a second at most.
  void tick();
  /// `count` of the total are done.
  void done(std::size_t count) { done_ += count; }
  /// Takes a redrawn line away, so that something else can be printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(Clock::time_point now);
  std::string line(Clock::time_point now) const;
  std::string eta(Clock::time_point now) const;

  bool on_terminal_;
  bool drawn_ = false;
  std::size_t total_;
  std::size_t done_ = 0;
  std::string what_;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace switchyard::cli
