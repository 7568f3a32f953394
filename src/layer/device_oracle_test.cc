// The whole layer on a device, or emulated, its experts' kernels included, against the oracle in
// double precision, and routers against theirs.

#include <gtest/gtest.h>

#include <limits>

#include "cuda/device_testing.h"
#include "layer/device_router.h"
#include "layer/layer_testing.h"

namespace switchyard {
namespace {

using testing::Tensor;
using testing::TestLayer;

class LayerOracleOnDevice : public cuda::DeviceTest {
 protected:
  /// A copy of a matrix on the device; between its rows lies what was there, NaN in the emulator.
  class Twin {
   public:
    Twin(Context& context, const ConstMatrixView& from) {
      const std::int64_t bytes =
          from.rows * from.row_stride * static_cast<std::int64_t>(size_of(from.dtype));
      view_ = {memory_.reserve(context, bytes + 1),
               from.dtype,
               from.rows,
               from.cols,
               from.row_stride,
               Device::cuda};
      copy(context, from, view_);
    }
    MatrixView view() const { return view_; }

   private:
    DeviceBuffer memory_;
    MatrixView view_;
  };

  static TestLayer::Options options() { return {.dtype = DType::bf16}; }

  void forward(TestLayer& layer, MoeLayer& moe, const Routing* routing = nullptr) {
    const Twin x(*context_, layer.x.view()), out(*context_, layer.out.view());
    if (routing != nullptr) {
      moe.forward(*context_, x.view(), *routing, out.view());
    } else {
      moe.forward(*context_, x.view(), out.view());
    }
    copy(*context_, out.view(), layer.out.view());
    moe.fetch(*context_);
  }

  void expect_right(TestLayer& layer, const Routing* routing = nullptr) {
    MoeLayer moe(*context_, layer.config, layer.weights);
    forward(layer, moe, routing);
    EXPECT_LE(layer.error_over_tolerance(moe), 1);
  }
  void expect_right(const TestLayer::Options& o) {
    TestLayer layer(o);
    expect_right(layer);
  }

  /// Every token to experts `first` and the next, with weights 3/4 and 1/4.
  static Routing to_neighbours(const TestLayer::Options& o, int first) {
    Routing routing;
    routing.num_tokens = o.tokens;
    routing.num_experts = o.experts;
    routing.token_begin.push_back(0);
    for (std::int64_t t = 0; t < o.tokens; ++t) {
      routing.expert.insert(routing.expert.end(), {first, first + 1});
      routing.weight.insert(routing.weight.end(), {0.75f, 0.25f});
      routing.token_begin.push_back(2 * (t + 1));
    }
    return routing;
  }
};

TEST_F(LayerOracleOnDevice, EveryLayoutAndDtype) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const PlanOptions& plan : {PlanOptions{},
                                    {.layout = Layout::fused},
                                    {.layout = Layout::block, .block_rows = 16},
                                    {.layout = Layout::capacity, .capacity_factor = 1.25}}) {
      TestLayer::Options o = options();
      o.dtype = dtype;
      o.plan = plan;
      expect_right(o);
    }
  }
}

TEST_F(LayerOracleOnDevice, EveryStrategyOfTheDevice) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    SCOPED_TRACE(strategy.name);
    TestLayer::Options o = options();
    o.strategy = strategy.name;
    TestLayer layer(o);
    if (routes_on_device(strategy)) {
      expect_right(layer);
      continue;
    }
    if (strategy.is_soft()) layer.config.router.slots_per_expert = 1;
    try {
      MoeLayer(*context_, layer.config, layer.weights);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::unavailable);
      EXPECT_NE(std::string(e.what()).find("runs on the CPU only"), std::string::npos) << e.what();
    }
  }
}

TEST_F(LayerOracleOnDevice, NoiseOfASecondRouterIsThatOfTheCpu) {
  TestLayer::Options o = options();
  o.strategy = "noisy_topk";
  TestLayer layer(o);
  Tensor noise(DType::f32, o.experts, o.hidden);
  noise.fill_normal(3, 11, 0.3f);
  layer.weights.router_noise = noise.view();
  MoeLayer moe(*context_, layer.config, layer.weights);
  forward(layer, moe);
  EXPECT_LE(layer.error_over_tolerance(moe), 1);
  Context host({.threads = 1});
  MoeLayer on_cpu(host, layer.config, layer.weights);
  on_cpu.forward(host, layer.x.view(), layer.out.view());
  // Logits are sums in another order, so weights agree to rounding.
  ASSERT_EQ(moe.routing().expert, on_cpu.routing().expert);
  for (std::size_t a = 0; a < moe.routing().weight.size(); ++a) {
    EXPECT_NEAR(moe.routing().weight[a], on_cpu.routing().weight[a], 1e-4);
  }
}

TEST_F(LayerOracleOnDevice, SharedExpertGateAndPlainFfn) {
  TestLayer::Options o = options();
  o.shared = true;
  expect_right(o);
  o.shared_gate = true;
  expect_right(o);
  o.gated = false;
  o.activation = Activation::gelu;
  expect_right(o);
  o.activation = Activation::relu;
  o.dtype = DType::f16;
  expect_right(o);
}

TEST_F(LayerOracleOnDevice, DropsByPositionAndByProbabilityAndRenormalises) {
  for (const DropPolicy policy : {DropPolicy::position, DropPolicy::probs}) {
    for (const Layout layout : {Layout::compact, Layout::fused, Layout::capacity}) {
      TestLayer::Options o = options();
      o.plan = {.layout = layout, .capacity_factor = 0.5, .drop_policy = policy};
      o.plan.renormalise = layout != Layout::fused;
      expect_right(o);
    }
  }
}

// Sizes that are no multiple of a tile, rows that miss every alignment.
TEST_F(LayerOracleOnDevice, OddSizesAndUnalignedRows) {
  for (const std::int64_t gap : {1, 3}) {
    for (const Layout layout : {Layout::compact, Layout::fused}) {
      TestLayer::Options o = options();
      o.plan.layout = layout;
      o.hidden = 67;
      o.ffn = 35;
      o.gap = gap;
      o.shared = o.shared_gate = true;
      expect_right(o);
    }
  }
}

TEST_F(LayerOracleOnDevice, Extremes) {
  for (const Layout layout : {Layout::compact, Layout::fused}) {
    TestLayer::Options o = options();
    o.plan.layout = layout;
    o.tokens = 1;
    expect_right(o);
    o.top_k = o.experts;
    expect_right(o);  // K = E
    o.experts = o.top_k = 1;
    o.tokens = 5;
    expect_right(o);
    o.tokens = 0;
    TestLayer empty(o);
    MoeLayer moe(*context_, empty.config, empty.weights);
    forward(empty, moe);
    EXPECT_EQ(moe.routing().num_tokens, 0);
    EXPECT_EQ(moe.plan().num_rows(), 0);
  }
}

// Experts without tokens beside one that has all: the emulator poisons what nobody writes. 200 rows
// take the tall tile.
TEST_F(LayerOracleOnDevice, AllTokensOnOneExpert) {
  for (const Layout layout : {Layout::compact, Layout::fused, Layout::block}) {
    TestLayer::Options o = options();
    o.plan.layout = layout;
    o.tokens = 200;
    o.experts = 4;
    TestLayer layer(o);
    const Routing routing = to_neighbours(o, 2);
    expect_right(layer, &routing);
  }
}

TEST_F(LayerOracleOnDevice, TiesGoToTheLowerExperts) {
  TestLayer::Options o = options();
  TestLayer layer(o);
  const Tensor zeros = std::move(Tensor(DType::f32, o.experts, o.hidden).fill_normal(1, 1, 0));
  layer.weights.router = zeros.view();
  MoeLayer moe(*context_, layer.config, layer.weights);
  forward(layer, moe);
  for (std::size_t a = 0; a < moe.routing().expert.size(); ++a) {
    EXPECT_EQ(moe.routing().expert[a], static_cast<std::int32_t>(a % 2));
    EXPECT_EQ(moe.routing().weight[a], 0.5f);
  }
  EXPECT_LE(layer.error_over_tolerance(moe), 1);
}

TEST_F(LayerOracleOnDevice, ATokenOfNaNIsNamed) {
  TestLayer layer(options());
  layer.x.set(7, 3, std::numeric_limits<float>::quiet_NaN());
  MoeLayer moe(*context_, layer.config, layer.weights);
  try {
    forward(layer, moe);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(e.what()).find("token 7 "), std::string::npos) << e.what();
  }
}

TEST_F(LayerOracleOnDevice, TwoRunsAndAReplayGiveTheSameBits) {
  TestLayer::Options o = options();
  o.shared = o.shared_gate = true;
  o.strategy = "noisy_topk";
  o.plan = {.capacity_factor = 0.75, .drop_policy = DropPolicy::probs};
  TestLayer layer(o);
  layer.weights.router = RouterWeights::mlp(layer.routed.up.matrices(o.experts)[0],
                                            layer.routed.down.matrices(o.experts)[0]);
  layer.weights.router.out.rows = o.experts;
  MoeLayer moe(*context_, layer.config, layer.weights);
  const Twin x(*context_, layer.x.view()), out(*context_, layer.out.view());
  const auto bytes = [&] {
    copy(*context_, out.view(), layer.out.view());
    return layer.out.bytes();
  };
  const auto work = [&] { moe.forward(*context_, x.view(), out.view()); };
  work();
  const std::vector<std::byte> once = bytes();
  work();
  EXPECT_EQ(bytes(), once);
  cuda::Gpu& gpu = cuda::gpu_of(*context_);
  cuda::Graph graph(gpu, work);
  gpu.fill(out.view().data, 0xff, std::ssize(once));
  graph.launch(gpu);
  EXPECT_EQ(bytes(), once);
}

TEST_F(LayerOracleOnDevice, RoutersOfEveryArchitecture) {
  for (const RouterArch arch : {RouterArch::linear, RouterArch::mlp, RouterArch::mlp_hadamard}) {
    for (const DType tokens : {DType::f32, DType::bf16, DType::f16}) {
      for (const DType dtype : {DType::f32, tokens}) {
        SCOPED_TRACE(std::string(name_of(arch)) + " " + std::string(name_of(dtype)));
        constexpr std::int64_t kExperts = 9, kHidden = 40, kWidth = 70;
        const std::int64_t depth = arch == RouterArch::mlp ? kWidth : kHidden;
        Tensor up(dtype, kWidth, kHidden, 1), down(dtype, kHidden, kWidth, 2),
            last(dtype, kExperts, depth, 3), x(tokens, 130, kHidden, 5);
        up.fill_normal(3, 1, 0.16f);
        down.fill_normal(3, 2, 0.18f);
        last.fill_normal(3, 3, 0.2f);
        x.fill_normal(3, 4, 1);
        RouterWeights weights(last.view());
        if (arch == RouterArch::mlp) weights = RouterWeights::mlp(up.view(), last.view());
        if (arch == RouterArch::mlp_hadamard) {
          weights = RouterWeights::mlp_hadamard(up.view(), down.view(), last.view());
        }
        DeviceRouter router(*context_, weights, tokens);
        Tensor logits(DType::f32, 130, kExperts, 1);
        const Twin on_device(*context_, x.view()), out(*context_, logits.view());
        router.run(*context_, on_device.view(), out.view());
        copy(*context_, out.view(), logits.view());
        const double error = relative_error(logits.view(), reference_logits(x.view(), weights), {});
        EXPECT_LE(error, 2 * logits_tolerance(weights, tokens));
      }
    }
  }
  const Tensor narrow(DType::bf16, 5, 7);
  Tensor logits(DType::f32, 5, 3);
  Tensor wrong(DType::f16, 3, 8);
  cuda::Linear linear(*context_, wrong.view());
  EXPECT_THROW(linear.run(*context_, narrow.view(), logits.view()), Error);
  EXPECT_THROW(DeviceRouter(*context_, wrong.view(), DType::bf16), Error);
}

}  // namespace
}  // namespace switchyard
