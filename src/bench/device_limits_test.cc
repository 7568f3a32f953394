#include "bench/device_limits.h"

#include <gtest/gtest.h>

#include "cuda/device_testing.h"

namespace switchyard {
namespace {

class DeviceLimits : public cuda::DeviceTest {};

TEST_F(DeviceLimits, AreAllMeasured) {
  const DeviceCeilings ceilings =
      measure_device_ceilings(*context_, {.copy_bytes = 1 << 16, .product_size = 16, .repeats = 2});
  EXPECT_GT(ceilings.read_bw, 0);
  EXPECT_GT(ceilings.copy_bw, 0);
  EXPECT_GT(ceilings.gather_bw, 0);
  EXPECT_GT(ceilings.launch_s, 0);
  EXPECT_GT(ceilings.graph_launch_s, 0);
  EXPECT_EQ(ceilings.peak_flops.size(), 3u);
  for (const auto& [dtype, peak] : ceilings.peak_flops) EXPECT_GT(peak, 0) << dtype;
  const Ceilings limits = ceilings_of(ceilings, "sm_90");
  EXPECT_EQ(limits.rows_bw(), std::max(ceilings.copy_bw, ceilings.gather_bw));
  EXPECT_EQ(limits.peak("sm_90", "f16"), ceilings.peak_flops.at("f16"));
  EXPECT_EQ(limits.graph_launch_s, ceilings.graph_launch_s);
}

}  // namespace
}  // namespace switchyard
