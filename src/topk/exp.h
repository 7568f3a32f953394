#pragma once

#include <bit>
#include <cstdint>

#include "base/host_device.h"
#include "topk/topk_kernel.h"

namespace switchyard {

/// exp(x) for x <= 0 by the family's formula: what every variant computes, for loops that the
/// compiler vectorises. Not for ISA files, which need copies compiled for their ISA.
SWITCHYARD_HD inline float exp_nonpositive(float x) noexcept {
  const float shifted = x * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  // Constants, because device code has no address of an array of the host's.
  constexpr float q4 = kExpQ[4], q3 = kExpQ[3], q2 = kExpQ[2], q1 = kExpQ[1], q0 = kExpQ[0];
  const float q = (((q4 * r + q3) * r + q2) * r + q1) * r + q0;
  const float mantissa = q * (r * r) + r + 1.0f;
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;
  const float y = std::bit_cast<float>(std::bit_cast<std::uint32_t>(mantissa) + exponent);
  return x >= kExpMin ? y : 0.0f;
}

}  // namespace switchyard
