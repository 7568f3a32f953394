#include "cuda/nvml.h"

#include <dlfcn.h>

namespace switchyard::cuda {
namespace {

// Of nvml.h, whose ABI is fixed.
constexpr int kSuccess = 0;
constexpr int kSmClock = 1, kMemoryClock = 2;
constexpr int kGpuTemperature = 0;
constexpr unsigned kVersionBytes = 96;

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

struct Nvml::Functions {
  ~Functions() {
    if (is_initialised) shutdown();
    if (library != nullptr) dlclose(library);
  }

  bool load(const std::string& path) {
    library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    return library != nullptr && find(library, "nvmlInit_v2", init) &&
           find(library, "nvmlShutdown", shutdown) &&
           find(library, "nvmlDeviceGetHandleByPciBusId_v2", device_of_bus) &&
           find(library, "nvmlSystemGetDriverVersion", driver_version) &&
           find(library, "nvmlDeviceGetClockInfo", clock) &&
           find(library, "nvmlDeviceGetPowerUsage", power) &&
           find(library, "nvmlDeviceGetTemperature", temperature);
  }

  void* library = nullptr;
  bool is_initialised = false;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*device_of_bus)(const char* pci_bus_id, void** device) = nullptr;
  int (*driver_version)(char* text, unsigned bytes) = nullptr;
  int (*clock)(void* device, int which, unsigned* mhz) = nullptr;
  int (*power)(void* device, unsigned* milliwatts) = nullptr;
  int (*temperature)(void* device, int sensor, unsigned* celsius) = nullptr;
};

Nvml::Nvml() : functions_(std::make_unique<Functions>()) {}
Nvml::~Nvml() = default;

std::unique_ptr<Nvml> Nvml::open(const std::string& pci_bus_id, const std::string& library) {
  std::unique_ptr<Nvml> nvml(new Nvml);
  Functions& f = *nvml->functions_;
  if (pci_bus_id.empty() || !f.load(library) || f.init() != kSuccess) return nullptr;
  f.is_initialised = true;
  if (f.device_of_bus(pci_bus_id.c_str(), &nvml->device_) != kSuccess) return nullptr;
  char version[kVersionBytes] = {};
  if (f.driver_version(version, kVersionBytes) == kSuccess) nvml->driver_version_ = version;
  return nvml;
}

DeviceState Nvml::read() const {
  DeviceState state;
  unsigned value = 0;
  if (functions_->clock(device_, kSmClock, &value) == kSuccess) state.sm_clock_mhz = value;
  if (functions_->clock(device_, kMemoryClock, &value) == kSuccess) state.memory_clock_mhz = value;
  if (functions_->power(device_, &value) == kSuccess) state.power_w = 1e-3 * value;
  if (functions_->temperature(device_, kGpuTemperature, &value) == kSuccess) {
    state.temperature_c = value;
  }
  return state;
}

}  // namespace switchyard::cuda
