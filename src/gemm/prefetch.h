#pragma once

#include "gemm/gemm_kernel.h"

// Internal linkage throughout: each ISA's kernels get a copy of their own.
namespace switchyard::gemm {
namespace {

/// Fetches the weights of GemmArgs::prefetch into L2, spread evenly over the steps of a call.
///
/// Memory serves several streams better than one: eight that are read line by line in turn
/// give 17.5 GB/s on one core where one gives 12. So the next stripe is fetched as eight eighths, a
/// line of each in turn. A row tile times a stripe from memory: 7 GB/s without prefetch, 10 with
/// one stream, 13.6 with two, 16.5 with four, 17.3 with eight: all that memory has. Beside many
/// rows single lines, evenly spaced, disturb less than eight at a time (4% of 256 rows).
class Prefetcher {
 public:
  Prefetcher(const GemmArgs& args, std::int64_t steps) noexcept
      : Prefetcher(args.prefetch, args.prefetch_bytes, steps) {}

  Prefetcher(const std::byte* weights, std::int64_t bytes, std::int64_t steps) noexcept
      : weights_(weights),
        eighth_(bytes / kStreams / kLine * kLine),
        lines_(bytes / kStreams / kLine * kStreams),
        steps_(steps) {}

  inline void step() noexcept {
    for (due_ += lines_; due_ >= steps_ && done_ < lines_; due_ -= steps_, ++done_) {
      __builtin_prefetch(weights_ + done_ % kStreams * eighth_ + done_ / kStreams * kLine, 0, 2);
    }
  }

 private:
  static constexpr std::int64_t kStreams = 8;
  static constexpr std::int64_t kLine = 64;

  const std::byte* weights_;
  std::int64_t eighth_;
  std::int64_t lines_;
  std::int64_t steps_;
  std::int64_t due_ = 0;  ///< lines owed, times steps_
  std::int64_t done_ = 0;
};

}  // namespace
}  // namespace switchyard::gemm
