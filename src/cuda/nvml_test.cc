#include "cuda/nvml.h"

#include <gtest/gtest.h>

namespace switchyard::cuda {
namespace {

constexpr const char* kLibrary = SWITCHYARD_NVML_FOR_TESTS;
constexpr const char* kBus = "00000000:18:00.0";

TEST(Nvml, ReadsWhatTheDeviceTells) {
  const auto nvml = Nvml::open(kBus, kLibrary);
  ASSERT_NE(nvml, nullptr);
  EXPECT_EQ(nvml->driver_version(), "550.54.15");
  const DeviceState state = nvml->read();
  EXPECT_EQ(state.sm_clock_mhz, 1980);
  EXPECT_EQ(state.memory_clock_mhz, 2619);
  EXPECT_EQ(state.power_w, 412.5);
  EXPECT_FALSE(state.temperature_c.has_value());
}

TEST(Nvml, IsAbsentWithoutLibraryFunctionOrDevice) {
  EXPECT_EQ(Nvml::open(kBus, "libno-such-library.so"), nullptr);
  EXPECT_EQ(Nvml::open(kBus, "libm.so.6"), nullptr);
  EXPECT_EQ(Nvml::open("00000000:99:00.0", kLibrary), nullptr);
  EXPECT_EQ(Nvml::open("", kLibrary), nullptr);
}

}  // namespace
}  // namespace switchyard::cuda
