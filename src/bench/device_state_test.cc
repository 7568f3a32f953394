#include "bench/device_state.h"

#include <gtest/gtest.h>

#include "cuda/device_testing.h"

namespace switchyard {
namespace {

TEST(DeviceMonitor, NamesTheDeviceAndLeavesOutWhatNobodyTells) {
  cuda::GpuInfo gpu;
  gpu.name = "H200";
  gpu.runtime = 12040;
  DeviceMonitor monitor(gpu, nullptr);
  monitor();
  Record record = Record::object();
  monitor.add_device(record);
  monitor.add_state(record);
  EXPECT_EQ(record, (Record{{"gpu", "H200"}, {"cuda", "12.4"}}));
}

TEST(DeviceMonitor, KeepsMediansOfWhatTheDriverTells) {
  cuda::GpuInfo gpu;
  gpu.name = "H200";
  auto nvml = cuda::Nvml::open("00000000:18:00.0", SWITCHYARD_NVML_FOR_TESTS);
  ASSERT_NE(nvml, nullptr);
  DeviceMonitor monitor(gpu, std::move(nvml));
  for (int i = 0; i < 3; ++i) monitor();
  Record record = Record::object();
  monitor.add_device(record);
  monitor.add_state(record);
  EXPECT_EQ(record["gpu_driver"], "550.54.15");
  EXPECT_EQ(record["sm_clock_MHz"], 1980.0);
  EXPECT_EQ(record["memory_clock_MHz"], 2619.0);
  EXPECT_EQ(record["power_W"], 412.5);
  EXPECT_FALSE(record.contains("temperature_C"));
  EXPECT_NO_THROW(in_schema_order(record));
}

class DeviceState : public cuda::DeviceTest {};

TEST_F(DeviceState, AFlushRunsAgainAndAgain) {
  DeviceFlush flush(*context_);
  for (int i = 0; i < 2; ++i) flush();
  synchronize(*context_);
}

TEST_F(DeviceState, MemoryThatIsNotThereIsRefused) {
  cuda::Gpu& gpu = cuda::gpu_of(*context_);
  EXPECT_NO_THROW(require_device_memory(gpu, 1024));
  try {
    require_device_memory(gpu, 1e18);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    EXPECT_NE(std::string(error.what()).find("needs"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace switchyard
