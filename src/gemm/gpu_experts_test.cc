// Experts of a context with a device, by their public face.

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "cuda/device_testing.h"
#include "cuda/gpu.h"
#include "gemm/gpu_row_kernels.h"
#include "layer/layer_reference.h"
#include "switchyard/device.h"
#include "switchyard/experts.h"
#include "switchyard/pack.h"
#include "switchyard/quant.h"

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kHidden = 72, kFfn = 40, kTokens = 24;
constexpr int kExperts = 5, kPerToken = 2;

std::vector<bf16> random_elements(std::int64_t count, std::uint64_t stream) {
  const Philox random(17, stream);
  std::vector<bf16> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] =
        from_float<bf16>((static_cast<float>(random.word(i) >> 8) * 0x1p-24f - 0.5f) * 0.4f);
  }
  return values;
}

class GpuExpertsTest : public cuda::DeviceTest {
 protected:
  GpuExpertsTest()
      : gate_(random_elements(kExperts * kFfn * kHidden, 1)),
        up_(random_elements(kExperts * kFfn * kHidden, 2)),
        down_(random_elements(kExperts * kHidden * kFfn, 3)),
        x_(random_elements(kTokens * kHidden, 4)),
        weights_{matrices(gate_.data(), kExperts, kFfn, kHidden),
                 matrices(up_.data(), kExperts, kFfn, kHidden),
                 matrices(down_.data(), kExperts, kHidden, kFfn)} {}

  /// Token t goes to experts t mod 2 and 3: experts 2 and 4 have no rows.
  DispatchPlan plan(Layout layout) {
    Routing routing;
    routing.num_tokens = kTokens;
    routing.num_experts = kExperts;
    routing.token_begin.push_back(0);
    for (int t = 0; t < kTokens; ++t) {
      for (const int e : {t % 2, 3}) {
        routing.expert.push_back(e);
        routing.weight.push_back(0.5f);
      }
      routing.token_begin.push_back(std::ssize(routing.expert));
    }
    DispatchPlan plan;
    make_plan(host_, routing, {.layout = layout, .block_rows = 16}, plan);
    return plan;
  }

  void check(std::string_view implementation, Layout layout) {
    const auto experts = make_experts(*context_, implementation, weights_, DType::bf16);
    check(*experts, layout, weights_);
  }

  /// `exact` is what the experts' weights stand for.
  void check(Experts& experts, Layout layout, const ExpertWeights& exact) {
    const DispatchPlan host_plan = plan(layout);
    DevicePlan device_plan;
    copy(*context_, host_plan, device_plan);
    const std::int64_t rows = device_plan.max_rows;
    std::vector<bf16> in(static_cast<std::size_t>(rows * kHidden));
    if (layout == Layout::fused) {
      in = x_;
    } else {
      pack(host_, host_plan, matrix(std::as_const(x_).data(), kTokens, kHidden),
           matrix(in.data(), host_plan.num_rows(), kHidden));
    }
    DeviceBuffer device_in, device_out;
    const std::int64_t in_rows = layout == Layout::fused ? kTokens : rows;
    MatrixView in_view{device_in.reserve(*context_, in_rows * kHidden * 2),
                       DType::bf16,
                       in_rows,
                       kHidden,
                       kHidden,
                       Device::cuda};
    MatrixView out_view{device_out.reserve(*context_, rows * kHidden * 2),
                        DType::bf16,
                        rows,
                        kHidden,
                        kHidden,
                        Device::cuda};
    copy(*context_, matrix(std::as_const(in).data(), in_rows, kHidden), in_view);
    experts.forward(*context_, device_plan, in_view, out_view);
    std::vector<bf16> out(static_cast<std::size_t>(rows * kHidden));
    copy(*context_, out_view, matrix(out.data(), rows, kHidden));
    expect_right(host_plan, out, exact);
  }

  void expect_right(const DispatchPlan& plan, const std::vector<bf16>& out,
                    const ExpertWeights& exact) {
    std::vector<double> expected;
    std::vector<std::int64_t> rows;
    for (std::int64_t e = 0; e < kExperts; ++e) {
      const auto i = static_cast<std::size_t>(e);
      for (std::int64_t r = plan.expert_begin[i]; r < plan.expert_begin[i] + plan.expert_rows[i];
           ++r) {
        const std::int64_t token = plan.token_of_row[static_cast<std::size_t>(r)];
        std::vector<double> x;
        for (std::int64_t k = 0; k < kHidden; ++k) {
          x.push_back(to_float(x_[static_cast<std::size_t>(token * kHidden + k)]));
        }
        const auto row = reference_expert(exact, e, x);
        expected.insert(expected.end(), row.begin(), row.end());
        rows.push_back(r);
      }
    }
    const auto all = matrix(out.data(), std::ssize(out) / kHidden, kHidden);
    EXPECT_LE(relative_error(all, expected, rows),
              layer_tolerance(DType::bf16, DType::bf16, kHidden, kFfn));
  }

  Context host_{ContextOptions{.threads = 1}};
  std::vector<bf16> gate_, up_, down_, x_;
  ExpertWeights weights_;
};

TEST_F(GpuExpertsTest, EveryImplementationOnEveryLayout) {
  for (const std::string_view implementation : expert_implementations(Device::cuda)) {
    // The libraries are CUDA's, which the emulator has not.
    if (cuda::is_emulated() && implementation != "grouped") continue;
    for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block, Layout::fused}) {
      SCOPED_TRACE(implementation);
      SCOPED_TRACE(name_of(layout));
      check(implementation, layout);
    }
  }
}

TEST_F(GpuExpertsTest, Int4AllAtOnceAndOneByOne) {
  const auto elements = [&](const ConstMatricesView& w) {
    const QuantizedMatrices q = quantize(host_, w, {.zero_points = true});
    std::vector<float> exact(static_cast<std::size_t>(q.count * q.rows * q.cols));
    dequantize(host_, q, matrix(exact.data(), q.count * q.rows, q.cols));
    return exact;
  };
  const auto quantized = [&](std::int64_t first, std::int64_t count) {
    const auto part = [&](ConstMatricesView w) {
      w.data = w[first].data;
      w.count = count;
      return quantize(host_, w, {.zero_points = true});
    };
    return QuantizedExperts{part(weights_.gate), part(weights_.up), part(weights_.down)};
  };
  const auto gate = elements(weights_.gate), up = elements(weights_.up),
             down = elements(weights_.down);
  const ExpertWeights exact{matrices(gate.data(), kExperts, kFfn, kHidden),
                            matrices(up.data(), kExperts, kFfn, kHidden),
                            matrices(down.data(), kExperts, kHidden, kFfn)};
  const auto whole = make_experts(*context_, quantized(0, kExperts), DType::bf16);
  check(*whole, Layout::compact, exact);
  const auto one_by_one = make_experts(
      *context_, "grouped", kExperts, [&](std::int64_t e) { return quantized(e, 1); }, DType::bf16);
  check(*one_by_one, Layout::fused, exact);
  EXPECT_EQ(whole->weight_bytes(), one_by_one->weight_bytes());
  EXPECT_THROW(make_experts(*context_, quantized(0, kExperts), DType::f32), Error);
}

TEST_F(GpuExpertsTest, RefuseWhatTheyCannotDo) {
  EXPECT_THROW(make_experts(*context_, "masked_matmul", weights_, DType::bf16), Error);
  EXPECT_THROW(make_experts(*context_, "grouped", weights_, DType::f32), Error);
  const auto experts = make_experts(*context_, "grouped", weights_, DType::bf16);
  std::vector<bf16> rows(kTokens * 2 * kHidden);
  const MatrixView view = matrix(rows.data(), kTokens * 2, kHidden);
  EXPECT_THROW(experts->forward(host_, plan(Layout::compact), view, view), Error);
  DevicePlan device_plan;
  copy(*context_, plan(Layout::compact), device_plan);
  EXPECT_THROW(experts->forward(*context_, device_plan, view, view), Error);
}

// The passes that the libraries need besides: to padded rows and back is the identity on kept rows,
// and the activation is the epilogue's.
TEST_F(GpuExpertsTest, PaddedRowsAndBack) {
  cuda::Gpu& gpu = cuda::gpu_of(*context_);
  for (const Layout layout : {Layout::compact, Layout::fused}) {
    const DispatchPlan host_plan = plan(layout);
    DevicePlan device_plan;
    copy(*context_, host_plan, device_plan);
    GpuRows rows;
    rows.num_experts = kExperts;
    rows.rows = device_plan.max_rows;
    rows.expert_begin = device_plan.expert_begin;
    rows.expert_rows = device_plan.expert_rows;
    rows.token_of_row = layout == Layout::fused ? device_plan.token_of_row : nullptr;
    const std::int64_t each = 30;
    cuda::DeviceScope scope(gpu);
    const std::int64_t in_rows = layout == Layout::fused ? kTokens : rows.rows;
    std::vector<bf16> values(x_.begin(), x_.end());
    values.resize(static_cast<std::size_t>(in_rows * kHidden), from_float<bf16>(0.75f));
    auto* in = scope.take<bf16>(in_rows * kHidden);
    auto* padded = scope.take<bf16>(kExperts * each * kHidden);
    auto* out = scope.take<bf16>(rows.rows * kHidden);
    gpu.copy_to_device(in, values.data(), in_rows * kHidden * 2);
    const ConstMatrixView in_view{
        reinterpret_cast<std::byte*>(in), DType::bf16, in_rows, kHidden, kHidden, Device::cuda};
    take_rows(gpu, rows, in_view, {each, kHidden}, reinterpret_cast<std::byte*>(padded));
    give_rows(gpu, rows, {each, kHidden}, reinterpret_cast<std::byte*>(padded),
              {reinterpret_cast<std::byte*>(out), DType::bf16, rows.rows, kHidden, kHidden,
               Device::cuda});
    std::vector<bf16> got(static_cast<std::size_t>(rows.rows * kHidden));
    gpu.copy_to_host(got.data(), out, std::ssize(got) * 2);
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      const std::int64_t from =
          layout == Layout::fused ? host_plan.token_of_row[static_cast<std::size_t>(r)] : r;
      for (std::int64_t k = 0; k < kHidden; ++k) {
        ASSERT_EQ(got[static_cast<std::size_t>(r * kHidden + k)].bits,
                  values[static_cast<std::size_t>(from * kHidden + k)].bits);
      }
    }
  }
}

TEST_F(GpuExpertsTest, ActivatesElements) {
  cuda::Gpu& gpu = cuda::gpu_of(*context_);
  cuda::DeviceScope scope(gpu);
  const std::int64_t count = 77;
  auto* gate = scope.take<bf16>(count);
  auto* up = scope.take<bf16>(count);
  gpu.copy_to_device(gate, gate_.data(), count * 2);
  gpu.copy_to_device(up, up_.data(), count * 2);
  activate_elements(gpu, DType::bf16, Activation::silu, reinterpret_cast<std::byte*>(gate),
                    reinterpret_cast<std::byte*>(up), count);
  std::vector<bf16> got(count);
  gpu.copy_to_host(got.data(), up, count * 2);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = to_float(gate_[i]), u = to_float(up_[i]);
    EXPECT_NEAR(to_float(got[i]), g / (1 + std::exp(-g)) * u, 0x1p-8 * std::abs(g * u));
  }
}

}  // namespace
}  // namespace switchyard::gemm
