#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace switchyard {

/// Element types of activations and weights. bf16 and f16 are storage: sums are in f32.
enum class DType : std::uint8_t { f32, bf16, f16 };

constexpr std::size_t size_of(DType dtype) noexcept { return dtype == DType::f32 ? 4 : 2; }

/// Distance from 1 to the next representable value (2^-23, 2^-7, 2^-10).
constexpr double epsilon_of(DType dtype) noexcept {
  return dtype == DType::f32 ? 0x1p-23 : dtype == DType::bf16 ? 0x1p-7 : 0x1p-10;
}

/// "f32", "bf16" or "f16".
std::string_view name_of(DType dtype) noexcept;

/// Parses a name or an alias (fp32, float32, float, bfloat16, fp16, float16, half).
/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
DType dtype_from_name(std::string_view name);

/// bfloat16: the upper half of an IEEE binary32.
struct bf16 {
  std::uint16_t bits = 0;
};

/// IEEE binary16.
struct f16 {
  std::uint16_t bits = 0;
};

constexpr float to_float(float x) noexcept { return x; }

constexpr float to_float(bf16 x) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

constexpr float to_float(f16 x) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // inf, nan
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // Scaling by 2^112 renormalises subnormals exactly, so one path serves every finite value.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

/// Rounds to nearest, ties to even. Overflow gives infinity, NaN stays NaN.
template <class T>
constexpr T from_float(float x) noexcept;

template <>
constexpr float from_float<float>(float x) noexcept {
  return x;
}

template <>
constexpr bf16 from_float<bf16>(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>(bits >> 16 | 0x40u)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <>
constexpr f16 from_float<f16>(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint16_t sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // subnormal in f16: let one f32 addition do the rounding
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    const std::uint32_t low = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
    return {static_cast<std::uint16_t>(sign | low)};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<std::uint16_t>(sign | (rounded - 0x38000000u) >> 13)};
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::f16;
};

}  // namespace switchyard
