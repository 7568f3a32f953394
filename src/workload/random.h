#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "base/philox.h"

namespace switchyard {

/// What random numbers are for. Every use has its own Philox streams, so that no two inputs of a
/// cell are ever correlated, whatever the seed.
enum class Use : std::uint64_t {
  tensors = 1,
  logits,
  popularity,
  gate_router,
  gate_directions,
  gate_coefficients,
  gate_noise,
  trace_tokens,
};

/// The generator of the n-th stream of a use; n < 2^48.
inline Philox philox_for(Use use, std::uint64_t seed, std::uint64_t n = 0) noexcept {
  return Philox(seed, static_cast<std::uint64_t>(use) << 48 | n);
}

using Words = std::array<std::uint32_t, 4>;
using Floats = std::array<float, 4>;

/// A uniform in (-1, 1), symmetric around 0: 24 random bits centred by half a step, exact in f32.
inline float symmetric_uniform(std::uint32_t word) noexcept {
  return static_cast<float>(static_cast<std::int32_t>(word) >> 8 << 1 | 1) * 0x1p-24f;
}

/// Four standard normals (Box and Muller).
inline Floats normals(const Words& words) noexcept {
  Floats out;
  for (int i = 0; i < 4; i += 2) {
    const float radius = std::sqrt(-2.0f * std::log(1.0f - Philox::unit(words[i])));
    const float angle = 6.2831853f * Philox::unit(words[i + 1]);
    out[i] = radius * std::cos(angle);
    out[i + 1] = radius * std::sin(angle);
  }
  return out;
}

/// Four standard Gumbel variables, -ln(-ln u).
inline Floats gumbels(const Words& words) noexcept {
  Floats out;
  for (int i = 0; i < 4; ++i) {
    const float u = (static_cast<float>(words[i] >> 9) + 0.5f) * 0x1p-23f;  // never 0, never 1
    out[i] = -std::log(-std::log(u));
  }
  return out;
}

/// Calls store(i, x_i) for i in [begin, end), x_i = lane i % 4 of four_of(block i / 4): elements do
/// not depend on where a range is cut.
template <class FourOf, class Store>
void for_elements(const Philox& random, std::int64_t begin, std::int64_t end, FourOf&& four_of,
                  Store&& store) {
  std::int64_t i = begin;
  const auto partial = [&](std::int64_t stop) {
    const Floats four = four_of(random.block(static_cast<std::uint64_t>(i / 4)));
    for (; i < stop; ++i) store(i, four[static_cast<std::size_t>(i % 4)]);
  };
  if (i % 4 != 0 && i < end) partial(std::min(end, (i + 3) / 4 * 4));
  for (; i + 4 <= end; i += 4) {
    const Floats four = four_of(random.block(static_cast<std::uint64_t>(i / 4)));
    for (int lane = 0; lane < 4; ++lane) store(i + lane, four[static_cast<std::size_t>(lane)]);
  }
  if (i < end) partial(end);
}

}  // namespace switchyard
