#include "bench/device_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/memory.h"
#include "bench/statistics.h"
#include "cuda/read.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr std::int64_t kFlushedL2s = 4;
constexpr auto kBetweenReadings = std::chrono::milliseconds(100);

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

std::string isa_of(const cuda::GpuInfo& gpu) {
  return fmt::format("sm_{}{}", gpu.major, gpu.minor);
}

DeviceFlush::DeviceFlush(Context& context)
    : gpu_(cuda::gpu_of(context)), bytes_(kFlushedL2s * gpu_.info().l2_bytes / 16 * 16) {
  gpu_.fill(buffer_.reserve(context, std::max<std::int64_t>(16, bytes_)), 1, bytes_);
  gpu_.fill(sum_.reserve(context, sizeof(std::int32_t)), 0, sizeof(std::int32_t));
}

void DeviceFlush::operator()() {
  cuda::read_all(gpu_, buffer_.data(), bytes_, reinterpret_cast<std::int32_t*>(sum_.data()));
}

DeviceMonitor::DeviceMonitor(const cuda::GpuInfo& gpu)
    : DeviceMonitor(gpu, cuda::Nvml::open(gpu.pci_bus_id)) {}

DeviceMonitor::DeviceMonitor(const cuda::GpuInfo& gpu, std::unique_ptr<cuda::Nvml> nvml)
    : gpu_(gpu), nvml_(std::move(nvml)) {}

void DeviceMonitor::operator()() {
  const auto now = std::chrono::steady_clock::now();
  if (nvml_ == nullptr || now < next_) return;
  states_.push_back(nvml_->read());
  next_ = now + kBetweenReadings;
}

void DeviceMonitor::add_device(Record& record) const {
  record["gpu"] = gpu_.name;
  if (gpu_.runtime > 0) record["cuda"] = version_text(gpu_.runtime);
  if (nvml_ != nullptr && !nvml_->driver_version().empty()) {
    record["gpu_driver"] = nvml_->driver_version();
  }
}

void DeviceMonitor::add_state(Record& record) const {
  const auto add = [&](const char* field, std::optional<double> cuda::DeviceState::*quantity) {
    std::vector<double> values;
    for (const cuda::DeviceState& state : states_) {
      if (state.*quantity) values.push_back(*(state.*quantity));
    }
    if (values.empty()) return;
    std::sort(values.begin(), values.end());
    record[field] = percentile(values, 50);
  };
  add("sm_clock_MHz", &cuda::DeviceState::sm_clock_mhz);
  add("memory_clock_MHz", &cuda::DeviceState::memory_clock_mhz);
  add("power_W", &cuda::DeviceState::power_w);
  add("temperature_C", &cuda::DeviceState::temperature_c);
}

void require_device_memory(cuda::Gpu& gpu, double bytes) {
  const std::int64_t have = gpu.free_bytes();
  if (bytes <= static_cast<double>(have)) return;
  throw Error(ErrorCode::out_of_memory,
              fmt::format("the cell needs {} on {}, which has {} free",
                          bytes_text(static_cast<std::int64_t>(std::min(bytes, 9.2e18))),
                          gpu.info().name, bytes_text(have)));
}

}  // namespace switchyard
