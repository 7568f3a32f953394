#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "bench/limits.h"
#include "switchyard/context.h"

namespace switchyard {

/// What a CUDA device can do, measured with its own events. Bandwidths in bytes/s, read + written.
struct DeviceCeilings {
  double read_bw = 0;
  double copy_bw = 0;         ///< device to device
  double gather_bw = 0;       ///< random rows of 8 KiB
  double launch_s = 0;        ///< one small piece of work after the other in the stream
  double graph_launch_s = 0;  ///< the same as nodes of a graph
  std::map<std::string, double> peak_flops;  ///< square products by dtype: "bf16", "f16", "f32"
};

/// How much to measure with.
struct DeviceProbe {
  std::int64_t copy_bytes = std::int64_t{1} << 30;  ///< far more than any L2
  std::int64_t product_size = 8192;                 ///< M = N = K
  int repeats = 20;                                 ///< of which the fastest counts
};

/// A few seconds. Throws Error(invalid_argument) for a context of the CPU, Error(out_of_memory)
/// where the probe does not fit.
DeviceCeilings measure_device_ceilings(Context& context, const DeviceProbe& probe = {});

/// As the limits of records want them; peaks are those of `isa`, "sm_90".
Ceilings ceilings_of(const DeviceCeilings& measured, std::string_view isa);

}  // namespace switchyard
