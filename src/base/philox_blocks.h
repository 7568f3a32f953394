#pragma once

#include <cstdint>

namespace switchyard {

/// Many blocks of Philox4x32-10 (philox.h) at a time:
///
///   words[4 b + w] = word w of the block with the counter first + b, for b in [0, count)
///
/// count is a multiple of 4. Every variant gives the same words.
struct PhiloxBlocks {
  std::uint64_t seed;    ///< the key
  std::uint64_t stream;  ///< the upper half of the counter
  std::uint64_t first;
  std::int64_t count;
  std::uint32_t* words;
};

using PhiloxBlocksFn = void (*)(const PhiloxBlocks&) noexcept;

void philox_blocks_portable(const PhiloxBlocks& args) noexcept;
#if defined(SWITCHYARD_X86_KERNELS)
void philox_blocks_avx2(const PhiloxBlocks& args) noexcept;
#endif

}  // namespace switchyard
