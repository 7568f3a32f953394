#include "bench/device_limits.h"

#include <gtest/gtest.h>

#include "cuda/device_testing.h"

namespace switchyard {
namespace {

class DeviceLimits : public cuda::DeviceTest {};

TEST_F(DeviceLimits, AreAllMeasured) {
  const DeviceCeilings ceilings =
      measure_device_ceilings(*context_, {.copy_bytes = 1 << 16, .product_size = 16, .repeats = 2});
  EXPECT_GT(ceilings.copy_bw, 0);
  EXPECT_GT(ceilings.gather_bw, 0);
  EXPECT_GT(ceilings.launch_s, 0);
  EXPECT_GT(ceilings.graph_launch_s, 0);
  EXPECT_EQ(ceilings.peak_flops.size(), 3u);
  for (const auto& [dtype, peak] : ceilings.peak_flops) EXPECT_GT(peak, 0) << dtype;
}

}  // namespace
}  // namespace switchyard
