#pragma once

#include "switchyard/device.h"

namespace switchyard::plan_cuda {

inline constexpr int kMaxDeviceExperts = 1024;  ///< sums of all fit into a block's shared memory

/// The kernels behind make_plan of a DeviceRouting. `plan` has its sizes, its memory and its
/// capacity.
void plan_on_device(cuda::Gpu& gpu, const DeviceRouting& routing, const PlanOptions& options,
                    DevicePlan& plan);

}  // namespace switchyard::plan_cuda
