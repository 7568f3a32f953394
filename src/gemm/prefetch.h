#pragma once

#include "gemm/gemm_kernel.h"

// Internal linkage throughout: each ISA's kernels get a copy of their own.
namespace switchyard::gemm {
namespace {

/// Fetches the weights of GemmArgs::prefetch into L2, spread evenly over the steps of a call.
///
/// Memory serves several streams better than one: eight that are read line by line in turn give
/// 17.5 GB/s on one core where one gives 12. So the next stripe is fetched as eight parts in turn.
/// A prefetch occupies one of L1's 16 line buffers until it is served, which the loads of tiles
/// miss; but L2 fetches lines by pairs (128 bytes), so only every other line is asked for.
///
/// Time of 64 stripes of depth 2048 from memory, of one line each in eight streams before:
///
///   rows                                16    32    64    128   256
///   8 streams, pairs                    0.98  0.98  0.77  0.80  0.95
///   16 streams, pairs                   0.95  0.98  0.77  0.80  0.95
///   8 streams, every fourth line        1.22  1.23  1.13  1.26  1.20
///   1 stream, pairs                     1.61  1.60  1.21  1.20  1.07
///
/// Streams must not be short: in 16 of 2 KiB the hardware fetches much that is not wanted. int8,
/// 512 and 128 rows, microseconds a stripe of 32 KiB: 16 streams 10.6 and 4.4, 8 streams 9.0 and
/// 3.1; four such stripes at a time 8.9 and 2.8, 8.7 and 2.8 (products alone 8.4 of 512 rows).
class Prefetcher {
 public:
  Prefetcher(const GemmArgs& args, std::int64_t steps) noexcept
      : Prefetcher(args.prefetch, args.prefetch_bytes, steps) {}

  Prefetcher(const std::byte* weights, std::int64_t bytes, std::int64_t steps) noexcept
      : Prefetcher(
            PrefetchPairs{weights, bytes / (kStreams * kPair) * kPair, bytes / (kStreams * kPair)},
            steps) {}

  Prefetcher(const PrefetchPairs& pairs, std::int64_t steps) noexcept
      : next_(pairs.first),
        part_(pairs.stride),
        left_(pairs.pairs * kStreams),
        pairs_(left_),
        steps_(steps) {}

  inline void step() noexcept {
    for (due_ += pairs_; due_ >= steps_ && left_ > 0; due_ -= steps_) {
      __builtin_prefetch(next_, 0, 2);
      next_ += part_;
      if ((--left_ & (kStreams - 1)) == 0) next_ += kPair - kStreams * part_;
    }
  }

 private:
  static constexpr std::int64_t kStreams = PrefetchPairs::kStreams;
  static constexpr std::int64_t kPair = PrefetchPairs::kPair;

  const std::byte* next_;
  std::int64_t part_;
  std::int64_t left_;
  std::int64_t pairs_;
  std::int64_t steps_;
  std::int64_t due_ = 0;  ///< pairs owed, times steps_
};

}  // namespace
}  // namespace switchyard::gemm
