#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "bench/record.h"
#include "cuda/gpu.h"
#include "cuda/nvml.h"
#include "switchyard/device.h"

namespace switchyard {

/// The architecture that kernels ran on, "sm_90".
std::string isa_of(const cuda::GpuInfo& gpu);

/// Puts the L2 of a device into the state of a program that has just done something else with as
/// much memory: reads four times as much. Returns before that is done, which keeps the device busy
/// while the host launches what comes next.
class DeviceFlush {
 public:
  /// Throws Error(out_of_memory).
  explicit DeviceFlush(Context& context);
  void operator()();

 private:
  cuda::Gpu& gpu_;
  std::int64_t bytes_;
  DeviceBuffer buffer_, sum_;
};

/// Clocks, power and temperature of a device while it is measured, and who it is.
class DeviceMonitor {
 public:
  explicit DeviceMonitor(const cuda::GpuInfo& gpu);
  /// The same with a library in the place of the driver's; for tests.
  DeviceMonitor(const cuda::GpuInfo& gpu, std::unique_ptr<cuda::Nvml> nvml);

  /// Reads them, at most ten times a second.
  void operator()();

  /// gpu, gpu_driver and cuda.
  void add_device(Record& record) const;
  /// Medians of what was read; nothing where the driver told nothing.
  void add_state(Record& record) const;

 private:
  cuda::GpuInfo gpu_;
  std::unique_ptr<cuda::Nvml> nvml_;
  std::vector<cuda::DeviceState> states_;
  std::chrono::steady_clock::time_point next_{};
};

/// Throws Error(out_of_memory) with need and have unless `bytes` are free on the device.
void require_device_memory(cuda::Gpu& gpu, double bytes);

}  // namespace switchyard
