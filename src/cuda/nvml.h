#pragma once

#include <memory>
#include <optional>
#include <string>

namespace switchyard::cuda {

/// What a device is at, as its driver tells. Nothing is ever set.
struct DeviceState {
  std::optional<double> sm_clock_mhz, memory_clock_mhz, power_w, temperature_c;
};

/// The driver's management library, looked for when the program runs: nothing links to it.
class Nvml {
 public:
  /// The device of a PCI bus id ("00000000:18:00.0"). Null where the library, a function of it or
  /// the device is not there.
  static std::unique_ptr<Nvml> open(const std::string& pci_bus_id,
                                    const std::string& library = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  const std::string& driver_version() const noexcept { return driver_version_; }
  /// What the device does not tell is left out.
  DeviceState read() const;

 private:
  struct Functions;
  Nvml();

  std::unique_ptr<Functions> functions_;
  void* device_ = nullptr;
  std::string driver_version_;
};

}  // namespace switchyard::cuda
