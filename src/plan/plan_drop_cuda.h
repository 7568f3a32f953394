#pragma once

#include <cstdint>

#include "cuda/simt.h"

// Drop policy probs on a device: which of an expert's assignments are kept, and their order. The
// assignments of each expert have been listed in token order before; a block takes an expert, finds
// its C-th largest weight digit by digit, and ranks those above it and the first of those equal.

namespace switchyard::plan_cuda {

inline constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;

struct KeepLargestKernel {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / simt::kWarp;
  struct Args {
    const std::int64_t* expert_begin;  ///< [E+1] of the list
    const std::int32_t* assignment;    ///< [A], the list
    const float* weight;               ///< [A], of an assignment
    std::int64_t capacity;
    std::int32_t* rank;  ///< [A], of an assignment among its expert's kept, or -1
  };
  struct Shared {
    std::int32_t count[kDigits];
    std::int32_t above[kWarps], equal[kWarps];
    std::uint32_t cut;    ///< the digits that are known, then the C-th largest key
    std::int32_t wanted;  ///< of those with these digits
  };

  static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared) {
    const std::int64_t begin = args.expert_begin[simt::block_index()];
    const std::int64_t end = args.expert_begin[simt::block_index() + 1];
    if (end - begin <= args.capacity) {
      for (std::int64_t i = begin + simt::thread_index(); i < end; i += kThreads) {
        args.rank[args.assignment[i]] = static_cast<std::int32_t>(i - begin);
      }
      return;
    }
    find_cut(args, begin, end, shared);
    rank_kept(args, begin, end, shared);
  }

 private:
  /// In the order of the weights, -0 beside 0.
  static SWITCHYARD_DEVICE std::uint32_t key_of(const Args& args, std::int64_t i) {
    constexpr std::uint32_t kSign = 0x80000000u;
    const std::uint32_t bits = simt::bits_of(args.weight[args.assignment[i]] + 0.0f);
    return (bits & kSign) != 0 ? ~bits : bits | kSign;
  }

  static SWITCHYARD_DEVICE void find_cut(const Args& args, std::int64_t begin, std::int64_t end,
                                         Shared& shared) {
    if (simt::thread_index() == 0) {
      shared.cut = 0;
      shared.wanted = static_cast<std::int32_t>(args.capacity);
    }
    std::uint32_t known = 0;  // the bits of a key that have been decided
    for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
      for (int d = simt::thread_index(); d < kDigits; d += kThreads) shared.count[d] = 0;
      simt::sync_threads();
      const std::uint32_t cut = shared.cut;
      for (std::int64_t i = begin + simt::thread_index(); i < end; i += kThreads) {
        const std::uint32_t key = key_of(args, i);
        if ((key & known) == cut) simt::atomic_add(&shared.count[key >> shift & (kDigits - 1)], 1);
      }
      simt::sync_threads();
      if (simt::thread_index() == 0) {
        int digit = kDigits - 1;
        for (; digit > 0 && shared.count[digit] < shared.wanted; --digit) {
          shared.wanted -= shared.count[digit];
        }
        shared.cut |= static_cast<std::uint32_t>(digit) << shift;
      }
      known |= std::uint32_t{kDigits - 1} << shift;
      simt::sync_threads();
    }
  }

  /// All whose key is above the cut and the first `wanted` of those equal to it, in token order.
  static SWITCHYARD_DEVICE void rank_kept(const Args& args, std::int64_t begin, std::int64_t end,
                                          Shared& shared) {
    const std::uint32_t cut = shared.cut;
    const std::int32_t wanted = shared.wanted;
    std::int32_t above = 0, equal = 0;  // in the rounds before
    for (std::int64_t round = begin; round < end; round += kThreads) {
      const std::int64_t i = round + simt::thread_index();
      const std::uint32_t key = i < end ? key_of(args, i) : 0;
      const bool is_above = i < end && key > cut, is_equal = i < end && key == cut;
      const std::uint32_t lanes_above = simt::ballot(is_above),
                          lanes_equal = simt::ballot(is_equal);
      if (simt::lane_index() == 0) {
        shared.above[simt::warp_index()] = simt::count_ones(lanes_above);
        shared.equal[simt::warp_index()] = simt::count_ones(lanes_equal);
      }
      simt::sync_threads();
      std::int32_t my_above = above + simt::count_ones(lanes_above & simt::lanes_below());
      std::int32_t my_equal = equal + simt::count_ones(lanes_equal & simt::lanes_below());
      for (int w = 0; w < kWarps; ++w) {
        if (w < simt::warp_index()) {
          my_above += shared.above[w];
          my_equal += shared.equal[w];
        }
        above += shared.above[w];
        equal += shared.equal[w];
      }
      simt::sync_threads();
      if (i >= end) continue;
      const bool kept = is_above || (is_equal && my_equal < wanted);
      const std::int32_t before = my_above + (my_equal < wanted ? my_equal : wanted);
      args.rank[args.assignment[i]] = kept ? before : -1;
    }
  }
};

}  // namespace switchyard::plan_cuda
