// combine on a device, or emulated, against combine on the CPU: the same bits.

#include <gtest/gtest.h>

#include "cuda/device_testing.h"
#include "plan/random_routing.h"
#include "switchyard/combine.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

class CombineOnDevice : public cuda::DeviceTest {
 protected:
  struct Shape {
    std::int64_t tokens, hidden, gap = 0, shift = 0;
    int top_k = 3;
    DType dtype = DType::bf16;
  };

  void expect_same_bytes(const Shape& shape, const PlanOptions& options, bool accumulate = false) {
    DispatchPlan plan;
    DevicePlan on_device;
    make_plan(*context_,
              random_routing({.tokens = shape.tokens,
                              .experts = 9,
                              .top_k = shape.top_k,
                              .ragged = shape.top_k % 2 == 0}),
              options, plan);
    copy(*context_, plan, on_device);
    const cuda::TwinMatrix rows(*context_, shape.dtype, plan.num_rows(), shape.hidden, 1, shape.gap,
                                shape.shift);
    const cuda::TwinMatrix out(*context_, shape.dtype, shape.tokens, shape.hidden, 2, shape.gap,
                               shape.shift);
    combine(*context_, on_device, rows.device(), out.device(), accumulate);
    const std::vector<std::byte> combined = out.downloaded();
    combine(*context_, plan, rows.host(), out.host(), accumulate);
    EXPECT_EQ(combined, out.bytes());
  }
};

TEST_F(CombineOnDevice, GivesTheBitsOfTheCpu) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool accumulate : {false, true}) {
      expect_same_bytes({.tokens = 7, .hidden = 2056, .dtype = dtype}, {}, accumulate);
      expect_same_bytes(
          {.tokens = 5, .hidden = 77, .gap = 3, .shift = 1, .top_k = 8, .dtype = dtype}, {},
          accumulate);
    }
  }
}

TEST_F(CombineOnDevice, LeavesOutWhatWasDropped) {
  const Shape shape{.tokens = 40, .hidden = 64, .top_k = 6};
  expect_same_bytes(shape, {.layout = Layout::capacity, .capacity_factor = 0.5});
  expect_same_bytes(shape, {.capacity_factor = 0.3, .renormalise = true}, true);
}

TEST_F(CombineOnDevice, NothingAndOneToken) {
  expect_same_bytes({.tokens = 0, .hidden = 64}, {});
  expect_same_bytes({.tokens = 1, .hidden = 1}, {});
  expect_same_bytes({.tokens = 3, .hidden = 0}, {});
}

}  // namespace
}  // namespace switchyard
