// route on a device, or emulated, against route on the CPU and the reference.

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "cuda/device_testing.h"
#include "routing/routing_cases.h"
#include "routing/routing_reference.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

class RouteOnDevice : public cuda::DeviceTest {
 protected:
  /// The case's input with logits and bias on the device.
  RouterInput on_device(const RoutingCase& c) {
    cuda::Gpu& gpu = cuda::gpu_of(*context_);
    const auto logits_bytes = static_cast<std::int64_t>(c.logits.size() * sizeof(float));
    const auto bias_bytes = static_cast<std::int64_t>(c.bias.size() * sizeof(float));
    gpu.copy_to_device(logits_.reserve(*context_, logits_bytes + 1), c.logits.data(), logits_bytes);
    gpu.copy_to_device(bias_.reserve(*context_, bias_bytes + 1), c.bias.data(), bias_bytes);
    RouterInput input = c.input();
    input.logits.data = logits_.data();
    input.logits.device = Device::cuda;
    input.bias = {reinterpret_cast<const float*>(bias_.data()), c.bias.size()};
    const auto ids_bytes = static_cast<std::int64_t>(c.token_ids.size() * sizeof(std::int64_t));
    gpu.copy_to_device(ids_.reserve(*context_, ids_bytes + 1), c.token_ids.data(), ids_bytes);
    input.token_ids = {reinterpret_cast<const std::int64_t*>(ids_.data()), c.token_ids.size()};
    if (!noise_.empty()) {
      const std::int64_t noise_bytes = std::ssize(noise_) * 4;
      gpu.copy_to_device(noise_memory_.reserve(*context_, noise_bytes), noise_.data(), noise_bytes);
      input.noise_logits = noise_of(c);
      input.noise_logits.data = noise_memory_.data();
      input.noise_logits.device = Device::cuda;
    }
    return input;
  }

  RouterInput on_host(const RoutingCase& c) {
    RouterInput input = c.input();
    if (!noise_.empty()) input.noise_logits = noise_of(c);
    return input;
  }

  ConstMatrixView noise_of(const RoutingCase& c) const {
    return matrix(noise_.data(), c.num_tokens, c.num_experts);
  }

  void expect_cpu_bits(const Strategy& strategy, const RoutingCase& c) {
    DeviceRouting device_routing;
    Routing routing, expected;
    route(*context_, strategy, on_device(c), c.params, device_routing);
    copy(*context_, device_routing, routing);
    route(*context_, strategy, on_host(c), c.params, expected);
    EXPECT_EQ(routing.token_begin, expected.token_begin) << strategy.name;
    EXPECT_EQ(routing.expert, expected.expert) << strategy.name;
    for (std::size_t a = 0; a < expected.weight.size(); ++a) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(routing.weight[a]),
                std::bit_cast<std::uint32_t>(expected.weight[a]))
          << strategy.name << ", assignment " << a << ": " << routing.weight[a] << " for "
          << expected.weight[a];
    }
    std::vector<bool> close_calls;
    const Routing reference = reference_route(strategy.name, on_host(c), c.params, &close_calls);
    EXPECT_EQ(first_difference(routing, reference, 32 * epsilon_of(DType::f32), close_calls), "")
        << strategy.name;
    expect_counts(device_routing, expected);
  }

  /// The plan made from the selection's counts is the plan of the routing.
  void expect_counts(const DeviceRouting& routing, const Routing& expected) {
    DevicePlan device_plan;
    DispatchPlan plan, plan_of_expected;
    make_plan(*context_, routing, {}, device_plan);
    copy(*context_, device_plan, plan);
    make_plan(*context_, expected, {}, plan_of_expected);
    EXPECT_EQ(plan.expert_begin, plan_of_expected.expert_begin);
    EXPECT_EQ(plan.token_of_row, plan_of_expected.token_of_row);
    EXPECT_EQ(plan.row_of_assignment, plan_of_expected.row_of_assignment);
  }

  void expect_cpu_bits_of_all(const RoutingCase& c) {
    int num_strategies = 0;
    for (const Strategy& strategy : registry_.all()) {
      if (!routes_on_device(strategy)) continue;
      expect_cpu_bits(strategy, c);
      ++num_strategies;
    }
    EXPECT_EQ(num_strategies, 9);
  }

  const StrategyRegistry registry_ = StrategyRegistry::builtin();
  DeviceBuffer logits_, bias_, ids_, noise_memory_;
  std::vector<float> noise_;  ///< noise_logits [T, E], or empty
};

TEST_F(RouteOnDevice, GivesTheBitsOfTheCpuForEveryKindOfLogits) {
  for (int kind = 0; kind < static_cast<int>(Logits::count); ++kind) {
    expect_cpu_bits_of_all(make_case(17, static_cast<Logits>(kind), 9, 8, 8, 3));
    expect_cpu_bits_of_all(make_case(18, static_cast<Logits>(kind), 33, 2, 5, 0));
  }
}

TEST_F(RouteOnDevice, GivesTheBitsOfTheCpuForEverySize) {
  struct Size {
    int groups, group_size;
  };
  for (const Size size : {Size{1, 1}, {2, 1}, {1, 33}, {4, 32}, {8, 17}, {8, 32}, {16, 64}}) {
    for (const std::int64_t tokens : {0, 3}) {
      expect_cpu_bits_of_all(make_case(3, Logits::normal, tokens, size.groups, size.group_size, 1));
    }
  }
}

TEST_F(RouteOnDevice, SixteenOfSixteen) {
  RoutingCase c = make_case(5, Logits::ties, 40, 4, 4, 0);
  c.params.top_k = 16;
  c.params.topk_group = 4;
  expect_cpu_bits_of_all(c);
}

TEST_F(RouteOnDevice, ATokenWithoutALargestLogitIsReportedByTheCopy) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    RoutingCase c = make_case(5, Logits::normal, 70, 1, 8, 0);
    const auto row = c.logits.begin() + 50 * c.row_stride;
    std::fill(row, row + c.num_experts, bad);
    for (const Strategy& strategy : registry_.all()) {
      if (!routes_on_device(strategy)) continue;
      DeviceRouting device_routing;
      Routing routing;
      route(*context_, strategy, on_device(c), c.params, device_routing);
      try {
        copy(*context_, device_routing, routing);
        FAIL() << strategy.name;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
        EXPECT_NE(std::string(e.what()).find("token 50 "), std::string::npos) << e.what();
      }
    }
  }
}

TEST_F(RouteOnDevice, NoiseOfItsOwnRouter) {
  const RoutingCase c = make_case(7, Logits::infinities, 45, 3, 7, 2);
  const Philox random(7, 9);
  for (std::int64_t i = 0; i < c.num_tokens * c.num_experts; ++i) {
    noise_.push_back(4 * random.normal(static_cast<std::uint64_t>(i)));
  }
  noise_[5] = 3e38f;
  noise_[6] = -3e38f;
  const Strategy& noisy = registry_.find("noisy_topk");
  expect_cpu_bits(noisy, c);
  noise_[static_cast<std::size_t>(40 * c.num_experts + 2)] = std::numeric_limits<float>::infinity();
  DeviceRouting device_routing;
  Routing routing;
  route(*context_, noisy, on_device(c), c.params, device_routing);
  try {
    copy(*context_, device_routing, routing);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("token 40 "), std::string::npos) << e.what();
  }
}

TEST_F(RouteOnDevice, DrawsByPositionWhereNoIdsAreGiven) {
  const RoutingCase c = make_case(8, Logits::normal, 70, 4, 4, 0);
  for (const char* const name : {"hash", "random"}) {
    RouterInput input = on_device(c), host = c.input();
    input.token_ids = host.token_ids = {};
    DeviceRouting device_routing;
    Routing routing, expected;
    route(*context_, registry_.find(name), input, c.params, device_routing);
    copy(*context_, device_routing, routing);
    route(*context_, registry_.find(name), host, c.params, expected);
    EXPECT_EQ(routing.expert, expected.expert) << name;
  }
}

TEST_F(RouteOnDevice, StrategiesOfAWholeBatchSayThatTheyRunOnTheCpu) {
  const RoutingCase c = make_case(5, Logits::normal, 4, 1, 32, 0);
  DeviceRouting routing;
  int num_refused = 0;
  for (const Strategy& strategy : registry_.all()) {
    if (routes_on_device(strategy)) continue;
    ++num_refused;
    EXPECT_FALSE(strategy.causal) << strategy.name;
    try {
      route(*context_, strategy, on_device(c), c.params, routing);
      FAIL() << strategy.name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::unavailable);
      const std::string what = e.what();
      EXPECT_EQ(what.find("strategy '" + strategy.name + "' "), 0u) << what;
      EXPECT_NE(what.find("runs on the CPU only"), std::string::npos) << what;
      EXPECT_NE(what.find("noisy_topk"), std::string::npos) << what;
    }
  }
  EXPECT_EQ(num_refused, 4);
}

TEST_F(RouteOnDevice, SaysWhatItDoesNotDo) {
  const RoutingCase c = make_case(5, Logits::normal, 4, 1, 32, 0);
  DeviceRouting routing;
  EXPECT_THROW(route(*context_, registry_.find("top1"), c.input(), c.params, routing), Error);
  RouterParams params;
  params.top_k = 17;
  EXPECT_THROW(route(*context_, registry_.find("softk"), on_device(c), params, routing), Error);
}

}  // namespace
}  // namespace switchyard
