#include "switchyard/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "switchyard/error.h"

namespace switchyard {
namespace {

template <class T>
void every_value_survives_a_round_trip() {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const T x{static_cast<std::uint16_t>(bits)};
    const float f = to_float(x);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(to_float(from_float<T>(f))));
    } else {
      EXPECT_EQ(from_float<T>(f).bits, x.bits) << bits;
    }
  }
}

TEST(DType, Bf16RoundTrip) { every_value_survives_a_round_trip<bf16>(); }
TEST(DType, F16RoundTrip) { every_value_survives_a_round_trip<f16>(); }

// Halfway between neighbours goes to the even one; a nudge either way decides.
template <class T>
void rounds_to_nearest_even() {
  for (std::uint16_t bits = 0; bits < 0x7b00; ++bits) {
    const double low = to_float(T{bits});
    const double high = to_float(T{static_cast<std::uint16_t>(bits + 1)});
    if (!std::isfinite(high)) continue;
    const float middle = static_cast<float>((low + high) / 2);
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(from_float<T>(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    EXPECT_EQ(from_float<T>(std::nextafter(middle, infinity)).bits, bits + 1) << bits;
    EXPECT_EQ(from_float<T>(std::nextafter(middle, 0.0f)).bits, bits) << bits;
  }
}

TEST(DType, Bf16RoundsToNearestEven) { rounds_to_nearest_even<bf16>(); }
TEST(DType, F16RoundsToNearestEven) { rounds_to_nearest_even<f16>(); }

TEST(DType, OverflowIsInfinity) {
  EXPECT_TRUE(std::isinf(to_float(from_float<f16>(65520.0f))));
  EXPECT_EQ(to_float(from_float<f16>(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(to_float(from_float<bf16>(std::numeric_limits<float>::max()))));
}

TEST(DType, AliasesParse) {
  for (const char* name : {"f32", "fp32", "float32", "float"}) {
    EXPECT_EQ(dtype_from_name(name), DType::f32);
  }
  for (const char* name : {"f16", "fp16", "float16", "half"}) {
    EXPECT_EQ(dtype_from_name(name), DType::f16);
  }
  EXPECT_EQ(dtype_from_name("bfloat16"), DType::bf16);
  try {
    dtype_from_name("bf61");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "unknown dtype 'bf61': expected one of f32, bf16, f16 (did you mean bf16?)");
  }
}

}  // namespace
}  // namespace switchyard
