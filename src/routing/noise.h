#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/host_device.h"
#include "base/philox.h"

// The noise of noisy_topk, on the CPU and on a device. Written with +, -, *, / and sqrt alone,
// which IEEE 754 rounds in one way, because logarithms and cosines of two libraries differ in their
// last bits. Errors are a few units in the last place of a double.

namespace switchyard::noise {

inline constexpr std::uint64_t kPurpose = 0x6e6f6973;

/// c_n + c_{n+1} z + ... + c_last z^(last - n), c of `Series`.
template <class Series, int kLast, int n = 0>
SWITCHYARD_HD inline double sum_of(double z) noexcept {
  constexpr double c = Series::at(n);
  if constexpr (n == kLast) {
    return c;
  } else {
    return c + z * sum_of<Series, kLast, n + 1>(z);
  }
}

constexpr double factorial(int n) noexcept { return n > 1 ? n * factorial(n - 1) : 1; }

struct Exponential {
  static constexpr double at(int n) noexcept { return 1 / factorial(n); }
};
struct Cosine {  // in the square of the angle
  static constexpr double at(int n) noexcept { return (n % 2 == 0 ? 1 : -1) / factorial(2 * n); }
};
struct Sine {  // over the angle, in its square
  static constexpr double at(int n) noexcept {
    return (n % 2 == 0 ? 1 : -1) / factorial(2 * n + 1);
  }
};
struct LogOfRatio {  // ln((1 + s) / (1 - s)) = 2 (s + s^3/3 + s^5/5 + ...), over s, in s^2
  static constexpr double at(int n) noexcept { return 2.0 / (2 * n + 1); }
};

/// |s| <= 1/3: what follows the 17 terms is below 2^-58 of it.
SWITCHYARD_HD inline double log_of_ratio(double s) noexcept {
  return s * sum_of<LogOfRatio, 16>(s * s);
}

/// x normal, above 0.
SWITCHYARD_HD inline double log_of(double x) noexcept {
  constexpr std::uint64_t kMantissa = 0x000fffffffffffff, kOne = 0x3ff0000000000000;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<double>(static_cast<std::int64_t>(bits >> 52) - 1023);
  auto m = std::bit_cast<double>((bits & kMantissa) | kOne);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent += 1;
  }
  return exponent * 0x1.62e42fefa39efp-1 + log_of_ratio((m - 1) / (m + 1));
}

/// x <= 0; below -700 it counts as 0.
SWITCHYARD_HD inline double exp_of(double x) noexcept {
  if (!(x > -700)) return 0;
  constexpr double kRound = 0x1.8p52;  // adding it rounds to a whole number
  const double n = (x * 0x1.71547652b82fep+0 + kRound) - kRound;
  // ln 2 in two parts, the first short enough for n times it to be exact.
  const double r = (x - n * 0x1.62e42fefp-1) - n * 0x1.473de6af278edp-34;
  // |r| <= ln 2 / 2: r^15 / 15! < 2^-62.
  return sum_of<Exponential, 14>(r) *
         std::bit_cast<double>(static_cast<std::uint64_t>(1023 + static_cast<int>(n)) << 52);
}

/// ln(1 + e^z)
SWITCHYARD_HD inline double softplus(double z) noexcept {
  const double e = exp_of(z > 0 ? -z : z);
  return (z > 0 ? z : 0) + log_of_ratio(e / (2 + e));
}

/// Cosine and sine of `turn` / 2^32 of a full turn.
SWITCHYARD_HD inline void turn_of(std::uint32_t turn, double& cosine, double& sine) noexcept {
  const std::uint32_t quarter = (turn + (1u << 29)) >> 30;
  const double a = static_cast<std::int32_t>(turn - (quarter << 30)) * 0x1.921fb54442d18p-30;
  // |a| <= pi / 4: a^20 / 20! and a^19 / 19! < 2^-62.
  const double c = sum_of<Cosine, 9>(a * a), s = a * sum_of<Sine, 8>(a * a);
  const bool swaps = quarter % 2 != 0;
  const double x = swaps ? s : c, y = swaps ? c : s;
  cosine = quarter == 1 || quarter == 2 ? -x : x;
  sine = quarter == 2 || quarter == 3 ? -y : y;
}

/// Four standard normals, of token `token` and experts 4 group .. 4 group + 3 (Box and Muller).
SWITCHYARD_HD inline void draw_normals(std::uint64_t seed, std::int64_t token, int group,
                                       double (&normal)[4]) noexcept {
  const Philox random(seed, kPurpose << 32 | static_cast<std::uint32_t>(group));
  const auto words = random.block(static_cast<std::uint64_t>(token));
  for (std::size_t i = 0; i < 4; i += 2) {
    const double radius = std::sqrt(-2 * log_of(1 - words[i] * 0x1p-32));
    double cosine = 0, sine = 0;
    turn_of(words[i + 1], cosine, sine);
    normal[i] = radius * cosine;
    normal[i + 1] = radius * sine;
  }
}

/// x + noise in f32. Noise does not make an infinite logit of a finite one, nor the other way
/// round.
SWITCHYARD_HD inline float add_to(float x, double noise) noexcept {
  constexpr double kMost = 0x1.fffffep127;
  const bool is_finite = x - x == 0.0f;
  if (!is_finite) return x;
  const double sum = static_cast<double>(x) + noise;
  return static_cast<float>(sum > kMost ? kMost : sum < -kMost ? -kMost : sum);
}

}  // namespace switchyard::noise
