// make_plan on a device, or emulated, against the reference: the same plan.

#include <gtest/gtest.h>

#include "cuda/device_testing.h"
#include "plan/plan_reference.h"
#include "plan/random_routing.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

class PlanOnDevice : public cuda::DeviceTest {
 protected:
  void expect_reference(const Routing& routing, const PlanOptions& options) {
    DeviceRouting on_device;
    DevicePlan device_plan;
    DispatchPlan plan;
    copy(*context_, routing, on_device);
    make_plan(*context_, on_device, options, device_plan);
    copy(*context_, device_plan, plan);
    const DispatchPlan expected = plan_reference(routing, options);
    EXPECT_EQ(plan.capacity, expected.capacity);
    EXPECT_EQ(plan.expert_begin, expected.expert_begin);
    EXPECT_EQ(plan.expert_rows, expected.expert_rows);
    EXPECT_EQ(plan.token_of_row, expected.token_of_row);
    EXPECT_EQ(plan.row_of_assignment, expected.row_of_assignment);
    EXPECT_EQ(plan.weight_of_assignment, expected.weight_of_assignment);
    EXPECT_EQ(plan.token_begin, expected.token_begin);
    EXPECT_LE(plan.num_rows(), device_plan.max_rows);
  }
};

constexpr PlanOptions kOptions[] = {
    {},
    {.layout = Layout::fused},
    {.layout = Layout::block, .block_rows = 16},
    {.layout = Layout::block, .capacity_factor = 0.75, .block_rows = 7},
    {.layout = Layout::capacity, .capacity_factor = 1.25},
    {.layout = Layout::capacity, .capacity_factor = 0.5, .renormalise = true},
    {.capacity_factor = 0.5, .renormalise = true},
    {.capacity_factor = 0.5, .drop_policy = DropPolicy::probs, .renormalise = true},
    {.layout = Layout::capacity, .capacity_factor = 0.75, .drop_policy = DropPolicy::probs},
    {.layout = Layout::block,
     .capacity_factor = 0.25,
     .drop_policy = DropPolicy::probs,
     .block_rows = 5},
};

TEST_F(PlanOnDevice, IsTheReferencesForEveryLayout) {
  for (const PlanOptions& options : kOptions) {
    expect_reference(random_routing({.tokens = 150, .experts = 40, .top_k = 6}), options);
    expect_reference(random_routing({.tokens = 67, .experts = 7, .top_k = 5, .ragged = true}),
                     options);
  }
}

TEST_F(PlanOnDevice, SurvivesExtremes) {
  for (const PlanOptions& options : kOptions) {
    expect_reference(random_routing({.tokens = 0, .experts = 3, .top_k = 2}), options);
    expect_reference(random_routing({.tokens = 1, .experts = 1, .top_k = 1}), options);
    expect_reference(random_routing({.tokens = 33, .experts = 16, .top_k = 16}), options);  // K = E
    expect_reference(random_routing({.tokens = 70, .experts = 9, .top_k = 1, .crowded = 1}),
                     options);
  }
  expect_reference(random_routing({.tokens = 64, .experts = 1024, .top_k = 8}), {});
  expect_reference(random_routing({.tokens = 1100, .experts = 33, .top_k = 2}), {});
}

TEST_F(PlanOnDevice, KeepsTheLargestWeightsAndOfEqualOnesTheFirst) {
  Routing routing = random_routing({.tokens = 700, .experts = 3, .top_k = 1, .crowded = 1});
  const Philox random(4, 4);
  for (const int kind : {0, 1, 2}) {
    for (std::size_t a = 0; a < routing.weight.size(); ++a) {
      const float uniform = random.uniform(a);
      routing.weight[a] = kind == 0        ? 0.5f
                          : kind == 1      ? static_cast<float>(static_cast<int>(4 * uniform)) / 4
                          : uniform < 0.5f ? -0.0f
                                           : (uniform < 0.75f ? 0.0f : 1e-42f);
    }
    for (const double factor : {0.01, 1.0, 2.9}) {
      expect_reference(routing, {.capacity_factor = factor, .drop_policy = DropPolicy::probs});
    }
  }
}

TEST_F(PlanOnDevice, IsTheSameWhenReplayed) {
  cuda::Gpu& gpu = cuda::gpu_of(*context_);
  const Routing routing = random_routing({.tokens = 90, .experts = 12, .top_k = 3});
  DeviceRouting on_device;
  DevicePlan device_plan;
  DispatchPlan once, again;
  copy(*context_, routing, on_device);
  const auto work = [&] { make_plan(*context_, on_device, {}, device_plan); };
  work();
  copy(*context_, device_plan, once);
  cuda::Graph graph(gpu, work);
  for (int i = 0; i < 3; ++i) {
    gpu.fill(device_plan.memory.data(), 0xff, device_plan.memory.bytes());
    graph.launch(gpu);
  }
  copy(*context_, device_plan, again);
  EXPECT_EQ(again.token_of_row, once.token_of_row);
  EXPECT_EQ(again.row_of_assignment, once.row_of_assignment);
}

TEST_F(PlanOnDevice, SaysWhatItDoesNotDo) {
  DeviceRouting routing;
  DevicePlan plan;
  copy(*context_, random_routing({.tokens = 4, .experts = 3, .top_k = 2}), routing);
  try {
    make_plan(*context_, routing, {.layout = Layout::capacity}, plan);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(std::string(e.what()).find("capacity_factor is 0 in capacity layout"), 0u)
        << e.what();
  }
  routing.num_experts = 1025;
  EXPECT_THROW(make_plan(*context_, routing, {}, plan), Error);
  Context on_cpu;
  EXPECT_THROW(make_plan(on_cpu, routing, {}, plan), Error);
}

}  // namespace
}  // namespace switchyard
