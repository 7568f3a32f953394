#pragma once

#include <bit>
#include <cstdint>

#include "topk/topk_kernel.h"

namespace switchyard {

/// exp(x) for x <= 0 by the family's formula: what every variant computes, for loops that the
/// compiler vectorises. Not for ISA files, which need copies compiled for their ISA.
inline float exp_nonpositive(float x) noexcept {
  const float shifted = x * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float q = kExpQ[4];
  for (int i = 3; i >= 0; --i) q = q * r + kExpQ[i];
  const float mantissa = q * (r * r) + r + 1.0f;
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;
  const float y = std::bit_cast<float>(std::bit_cast<std::uint32_t>(mantissa) + exponent);
  return x >= kExpMin ? y : 0.0f;
}

}  // namespace switchyard
