#pragma once

namespace switchyard::cli {

/// While it lives, the first SIGINT or SIGTERM asks to stop instead of ending the process; the
/// second ends it as usual. One at a time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const noexcept;
};

}  // namespace switchyard::cli
