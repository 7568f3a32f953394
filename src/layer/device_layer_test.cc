// The layer on a device, or emulated.

#include <gtest/gtest.h>

#include "cuda/device_testing.h"
#include "layer/layer_testing.h"
#include "switchyard/layer.h"

namespace switchyard {
namespace {

/// Experts that give their rows back.
class IdentityExperts : public Experts {
 public:
  void forward(Context&, const DispatchPlan&, ConstMatrixView, MatrixView) override {}
  std::string kernel() const override { return "identity"; }
  std::string isa() const override { return "cuda"; }
  std::int64_t weight_bytes() const override { return 0; }

 private:
  void forward_on_device(Context& context, const DevicePlan&, ConstMatrixView in,
                         MatrixView out) override {
    out.rows = in.rows;
    copy(context, in, out);
  }
};

class LayerOnDevice : public cuda::DeviceTest {
 protected:
  static constexpr std::int64_t kTokens = 45, kHidden = 24, kExperts = 6;

  MoeLayer identity_layer(const std::string& strategy, const PlanOptions& options) {
    std::vector<float> weights(static_cast<std::size_t>(kExperts * kHidden));
    const Philox random(3, 1);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = random.normal(i);
    LayerConfig config{.strategy = registry_.find(strategy), .router = {}, .plan = options};
    config.router.top_k = 3;
    LayerWeights layer_weights;
    layer_weights.router = matrix(weights.data(), kExperts, kHidden);
    layer_weights.experts.up = matrices(weights.data(), kExperts, std::int64_t{1}, kHidden);
    layer_weights.experts.up.data = nullptr;  // only its shape is read
    return MoeLayer(*context_, config, layer_weights, std::make_shared<IdentityExperts>());
  }

  const StrategyRegistry registry_ = StrategyRegistry::builtin();
};

TEST_F(LayerOnDevice, IdentityExpertsReturnX) {
  const cuda::TwinMatrix x(*context_, DType::f32, kTokens, kHidden, 5);
  for (const PlanOptions& options : {PlanOptions{},
                                     {.layout = Layout::block, .block_rows = 8},
                                     {.layout = Layout::capacity, .capacity_factor = 6}}) {
    MoeLayer layer = identity_layer("topk_softmax", options);
    const cuda::TwinMatrix out(*context_, DType::f32, kTokens, kHidden, 6);
    StageTimes times;
    layer.forward(*context_, x.device(), out.device(), &times);
    const std::vector<std::byte> bytes = out.downloaded();
    const auto* got = reinterpret_cast<const float*>(bytes.data());
    const auto* expected = reinterpret_cast<const float*>(x.bytes().data());
    for (std::int64_t i = 0; i < kTokens * kHidden; ++i) {
      ASSERT_NEAR(got[i], expected[i], 4 * epsilon_of(DType::f32));
    }
    EXPECT_GE(times.select + times.plan + times.pack + times.experts + times.combine, 0);
    layer.fetch(*context_);
    EXPECT_EQ(layer.routing().num_assignments(), 3 * kTokens);
    EXPECT_EQ(layer.plan().num_tokens, kTokens);
    DispatchPlan plan;
    make_plan(*context_, layer.routing(), options, plan);
    EXPECT_EQ(layer.plan().token_of_row, plan.token_of_row);
  }
}

TEST_F(LayerOnDevice, GivesTheSameBitsTwiceAndWhenReplayed) {
  const cuda::TwinMatrix x(*context_, DType::f32, kTokens, kHidden, 5);
  const cuda::TwinMatrix out(*context_, DType::f32, kTokens, kHidden, 6);
  MoeLayer layer = identity_layer("sigmoid_bias", {});
  const auto work = [&] { layer.forward(*context_, x.device(), out.device()); };
  work();
  const std::vector<std::byte> once = out.downloaded();
  cuda::Graph graph(cuda::gpu_of(*context_), work);
  for (int i = 0; i < 2; ++i) {
    cuda::gpu_of(*context_).fill(out.device().data, 0xff, std::ssize(once));
    graph.launch(cuda::gpu_of(*context_));
    EXPECT_EQ(out.downloaded(), once);
  }
}

TEST_F(LayerOnDevice, SaysWhatItDoesNotDo) {
  EXPECT_THROW(identity_layer("sinkhorn", {}), Error);
  MoeLayer layer = identity_layer("top1", {});
  const cuda::TwinMatrix x(*context_, DType::f32, kTokens, kHidden, 5);
  EXPECT_THROW(layer.forward(*context_, x.host(), x.device()), Error);
}

}  // namespace
}  // namespace switchyard
