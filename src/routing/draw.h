#pragma once

#include <cstdint>

#include "base/host_device.h"
#include "base/philox.h"

namespace switchyard {

/// Which of a seed's draws a strategy uses.
inline constexpr std::uint32_t kHashPurpose = 0x68617368;
inline constexpr std::uint32_t kRandomPurpose = 0x72616e64;

/// What word j of counter i draws of experts 0..last.
SWITCHYARD_HD inline std::int32_t draw_word(std::uint64_t seed, std::uint32_t purpose,
                                            std::uint64_t i, int j, int last) noexcept {
  // Four words a block: the purpose and the block's number make the stream.
  const Philox random(seed, std::uint64_t{purpose} << 32 | static_cast<std::uint32_t>(j / 4));
  const std::uint64_t word = random.block(i)[static_cast<std::size_t>(j % 4)];
  return static_cast<std::int32_t>(word * static_cast<std::uint64_t>(last + 1) >> 32);
}

/// k distinct experts of [0, num_experts), every set equally likely, from Philox alone: words
/// 0..k-1 of counter `i`. Floyd's sampling (Bentley and Floyd 1987): word j chooses among the first
/// num_experts - k + j + 1 experts; a repeat takes the last of them instead.
inline void draw_distinct(std::uint64_t seed, std::uint32_t purpose, std::uint64_t i, int k,
                          int num_experts, std::int32_t* expert) noexcept {
  for (int j = 0; j < k; ++j) {
    const int last = num_experts - k + j;
    std::int32_t drawn = draw_word(seed, purpose, i, j, last);
    for (int other = 0; other < j; ++other) {
      if (expert[other] == drawn) {
        drawn = last;
        break;
      }
    }
    expert[j] = drawn;
  }
}

}  // namespace switchyard
