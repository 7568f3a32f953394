#pragma once

#include "base/host_device.h"

#if defined(__CUDACC__)
#define R123_CUDA_DEVICE SWITCHYARD_HD
#endif
#include <Random123/philox.h>

#include <array>
#include <cmath>
#include <cstdint>

namespace switchyard {

/// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011). Element i of stream s under a
/// seed is the same on any thread, device or rank, because it is computed from (seed, s, i) alone.
class Philox {
 public:
  SWITCHYARD_HD Philox(std::uint64_t seed, std::uint64_t stream) noexcept
      : key_{{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}},
        stream_(stream) {}

  std::uint64_t seed() const noexcept {
    return static_cast<std::uint64_t>(key_[1]) << 32 | key_[0];
  }
  std::uint64_t stream() const noexcept { return stream_; }

  /// Four independent words of block i.
  SWITCHYARD_HD std::array<std::uint32_t, 4> block(std::uint64_t i) const noexcept {
    const r123::Philox4x32::ctr_type counter = {
        {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32),
         static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)}};
    const auto out = r123::Philox4x32{}(counter, key_);
    return {out[0], out[1], out[2], out[3]};
  }

  std::uint32_t word(std::uint64_t i) const noexcept { return block(i / 4)[i % 4]; }

  /// Uniform in [0, 1), 24 bits.
  float uniform(std::uint64_t i) const noexcept { return unit(word(i)); }

  /// Standard normal, by Box and Muller from one block.
  float normal(std::uint64_t i) const noexcept {
    const auto words = block(i);
    const float radius = std::sqrt(-2.0f * std::log(1.0f - unit(words[0])));
    return radius * std::cos(6.2831853f * unit(words[1]));
  }

  static float unit(std::uint32_t word) noexcept {
    return static_cast<float>(word >> 8) * 0x1p-24f;
  }

 private:
  r123::Philox4x32::key_type key_;
  std::uint64_t stream_;
};

}  // namespace switchyard
