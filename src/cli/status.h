#pragma once

#include "switchyard/error.h"

namespace switchyard::cli {

/// What the command tells the shell. When cells of a sweep fail in several ways, the first of
/// interrupted, check failed, no resource, usage, failure is told.
enum Status : int {
  kDone = 0,
  kFailure = 1,
  kUsage = 2,        ///< bad options or bad input files
  kCheckFailed = 3,  ///< an output did not match its oracle
  kRegression = 4,   ///< `compare` found a cell slower, or one that no longer runs
  kNoResource = 5,   ///< not enough memory, or no such device
  kInterrupted = 130,
};

constexpr Status status_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::invalid_data: return kUsage;
    case ErrorCode::io: return kFailure;
    case ErrorCode::out_of_memory:
    case ErrorCode::unavailable: return kNoResource;
    case ErrorCode::check_failed: return kCheckFailed;
  }
  return kFailure;
}

}  // namespace switchyard::cli
