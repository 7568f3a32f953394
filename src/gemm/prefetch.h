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
/// one stream, 13.6 with two, 16.5 with four, 17.3 with eight: all that memory has.
class Prefetcher {
 public:
  Prefetcher(const GemmArgs& args, std::int64_t steps) noexcept
      : Prefetcher(args.prefetch, args.prefetch_bytes, steps) {}

  Prefetcher(const std::byte* weights, std::int64_t bytes, std::int64_t steps) noexcept
      : next_(weights),
        eighth_(bytes / kStreams / kLine * kLine),
        end_(weights + eighth_),
        lines_per_step_((eighth_ / kLine + steps - 1) / steps) {}

  inline void step() noexcept {
    for (std::int64_t i = 0; i < lines_per_step_ && next_ < end_; ++i, next_ += kLine) {
      for (std::int64_t stream = 0; stream < kStreams; ++stream) {
        __builtin_prefetch(next_ + stream * eighth_, 0, 2);
      }
    }
  }

 private:
  static constexpr std::int64_t kStreams = 8;
  static constexpr std::int64_t kLine = 64;

  const std::byte* next_;
  std::int64_t eighth_;
  const std::byte* end_;
  std::int64_t lines_per_step_;
};

}  // namespace
}  // namespace switchyard::gemm
