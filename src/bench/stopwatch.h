#pragma once

#include <chrono>

namespace switchyard {

/// Milliseconds since it was made, or since the last lap.
class Stopwatch {
 public:
  double lap_ms() noexcept {
    const auto now = Clock::now();
    const double ms = std::chrono::duration<double, std::milli>(now - begin_).count();
    begin_ = now;
    return ms;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace switchyard
