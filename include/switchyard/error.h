#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace switchyard {

/// What went wrong, coarse enough to choose an exit status or a retry.
enum class ErrorCode {
  invalid_argument,  ///< a value from outside is wrong: fix the call
  invalid_data,      ///< a file's content is wrong: fix the file
  io,                ///< the operating system refused to read or write
  out_of_memory,     ///< the work would not fit; nothing was allocated
  unavailable,       ///< an ISA, device or optional part is not on this machine or in this build
  check_failed,      ///< an output did not match its oracle
};

/// "invalid_argument", ...: the enumerator's own spelling.
constexpr std::string_view name_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::invalid_data: return "invalid_data";
    case ErrorCode::io: return "io";
    case ErrorCode::out_of_memory: return "out_of_memory";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::check_failed: return "check_failed";
  }
  return "?";
}

/// Every failure of a public function. what() is one sentence that names the argument, the value it
/// had and what was expected.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace switchyard
