// pack on a device, or emulated, against pack on the CPU: the same bytes.

#include <gtest/gtest.h>

#include "cuda/device_testing.h"
#include "plan/random_routing.h"
#include "switchyard/device.h"
#include "switchyard/pack.h"

namespace switchyard {
namespace {

class PackOnDevice : public cuda::DeviceTest {
 protected:
  struct Shape {
    std::int64_t tokens, hidden, gap = 0, shift = 0, more_rows = 0;
    DType dtype = DType::bf16;
  };

  void expect_same_bytes(const Shape& shape, const PlanOptions& options, int crowded = 0) {
    DispatchPlan plan;
    DevicePlan on_device;
    make_plan(
        *context_,
        random_routing({.tokens = shape.tokens, .experts = 5, .top_k = 3, .crowded = crowded}),
        options, plan);
    copy(*context_, plan, on_device);
    const cuda::TwinMatrix x(*context_, shape.dtype, shape.tokens, shape.hidden, 1, shape.gap,
                             shape.shift);
    const cuda::TwinMatrix rows(*context_, shape.dtype, plan.num_rows() + shape.more_rows,
                                shape.hidden, 2, shape.gap, shape.shift);
    pack(*context_, on_device, x.device(), rows.device());
    const std::vector<std::byte> packed = rows.downloaded();
    MatrixView exact = rows.host();
    exact.rows = plan.num_rows();
    pack(*context_, plan, x.host(), exact);
    EXPECT_EQ(packed, rows.bytes());
  }
};

TEST_F(PackOnDevice, CopiesAlignedAndOtherRows) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    expect_same_bytes({.tokens = 33, .hidden = 1032, .dtype = dtype}, {});
    expect_same_bytes({.tokens = 9, .hidden = 8, .dtype = dtype}, {});
    expect_same_bytes({.tokens = 17, .hidden = 77, .gap = 5, .shift = 3, .dtype = dtype}, {});
  }
}

TEST_F(PackOnDevice, ClearsPaddingAndLeavesRowsBeyond) {
  const Shape shape{.tokens = 20, .hidden = 264, .more_rows = 7};
  expect_same_bytes(shape, {.layout = Layout::block, .block_rows = 16});
  expect_same_bytes(shape, {.layout = Layout::capacity, .capacity_factor = 1.25}, 1);
  expect_same_bytes(shape, {.capacity_factor = 0.5});
}

TEST_F(PackOnDevice, NothingAndOneToken) {
  expect_same_bytes({.tokens = 0, .hidden = 64}, {});
  expect_same_bytes({.tokens = 1, .hidden = 1}, {});
  expect_same_bytes({.tokens = 3, .hidden = 0}, {});
}

TEST_F(PackOnDevice, RefusesMemoryOfTheHostAndTooFewRows) {
  DispatchPlan plan;
  DevicePlan on_device;
  make_plan(*context_, random_routing({.tokens = 4, .experts = 2, .top_k = 1}), {}, plan);
  copy(*context_, plan, on_device);
  const cuda::TwinMatrix x(*context_, DType::f32, 4, 8, 1), rows(*context_, DType::f32, 4, 8, 2);
  const cuda::TwinMatrix few(*context_, DType::f32, 3, 8, 2), half(*context_, DType::f16, 4, 8, 2);
  EXPECT_THROW(pack(*context_, on_device, x.host(), rows.device()), Error);
  EXPECT_THROW(pack(*context_, on_device, x.device(), rows.host()), Error);
  EXPECT_THROW(pack(*context_, on_device, x.device(), few.device()), Error);
  EXPECT_THROW(pack(*context_, on_device, x.device(), half.device()), Error);
  EXPECT_THROW(pack(*context_, plan, x.device(), rows.device()), Error);
}

}  // namespace
}  // namespace switchyard
