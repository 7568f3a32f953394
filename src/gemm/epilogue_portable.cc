#include <bit>
#include <cstring>

#include "gemm/epilogue_kernel.h"

namespace switchyard::gemm {
namespace {

struct Vec {
  static constexpr std::int64_t kLanes = 8;
  float lane[kLanes];

  static Vec load(const float* p) noexcept {
    Vec v;
    std::memcpy(v.lane, p, sizeof v.lane);
    return v;
  }
  static Vec set(float x) noexcept {
    Vec v;
    for (float& lane : v.lane) lane = x;
    return v;
  }
};

template <class Op>
Vec zip(Vec a, Vec b, Op op) noexcept {
  Vec out;
  for (std::int64_t i = 0; i < Vec::kLanes; ++i) out.lane[i] = op(a.lane[i], b.lane[i]);
  return out;
}

Vec operator+(Vec a, Vec b) noexcept {
  return zip(a, b, [](float x, float y) { return x + y; });
}
Vec operator-(Vec a, Vec b) noexcept {
  return zip(a, b, [](float x, float y) { return x - y; });
}
Vec operator*(Vec a, Vec b) noexcept {
  return zip(a, b, [](float x, float y) { return x * y; });
}
Vec min(Vec a, Vec b) noexcept {
  return zip(a, b, [](float x, float y) { return x < y ? x : y; });
}
Vec max(Vec a, Vec b) noexcept {
  return zip(a, b, [](float x, float y) { return x > y ? x : y; });
}

Vec fma(Vec a, Vec b, Vec c) noexcept { return a * b + c; }
Vec reciprocal(Vec x) noexcept {
  return zip(x, x, [](float d, float) { return 1.0f / d; });
}

float floor_of(float t) noexcept {       // of |t| < 2^22, without a call
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float nearest = t + kMagic - kMagic;
  return nearest > t ? nearest - 1.0f : nearest;
}

Vec above_floor(Vec t) noexcept {
  return zip(t, t, [](float x, float) { return x - floor_of(x); });
}

// x 2^floor(t) for t in [-126, 128); when t is NaN so is x.
Vec scale(Vec x, Vec t) noexcept {
  return zip(x, t, [](float y, float e) {
    const std::int32_t exponent = e == e ? static_cast<std::int32_t>(floor_of(e)) : 0;
    return y * std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
  });
}

template <class T>
void store_as(std::byte* out, Vec x) noexcept {
  T rounded[Vec::kLanes];
  for (std::int64_t i = 0; i < Vec::kLanes; ++i) rounded[i] = from_float<T>(x.lane[i]);
  std::memcpy(out, rounded, sizeof rounded);
}

void store_f32(std::byte* out, Vec x) noexcept { store_as<float>(out, x); }
void store_bf16(std::byte* out, Vec x) noexcept { store_as<bf16>(out, x); }
void store_bf16(std::byte* out, Vec x, Vec y) noexcept {
  store_bf16(out, x);
  store_bf16(out + 16, y);
}
void store_f16(std::byte* out, Vec x) noexcept { store_as<f16>(out, x); }
void stream_f32(std::byte* out, Vec x) noexcept { store_f32(out, x); }
void stream_bf16(std::byte* out, Vec x, Vec y) noexcept { store_bf16(out, x, y); }
void stream_f16(std::byte* out, Vec x) noexcept { store_f16(out, x); }
void end_streams() noexcept {}

}  // namespace
}  // namespace switchyard::gemm

#include "gemm/epilogue_formulas.h"

namespace switchyard::gemm {

EpilogueFn find_epilogue_portable(EpilogueKind kind, Activation act, DType element) noexcept {
  return find(kind, act, element);
}

}  // namespace switchyard::gemm
