// Laws that hold for every layer, without an oracle, and the oracle on random shapes.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "layer/layer_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::Tensor;
using testing::TestLayer;

std::vector<std::byte> output_of(TestLayer& test, int threads) {
  Context context({.threads = threads, .isa = {}});
  MoeLayer layer(context, test.config, test.weights);
  layer.forward(context, test.x.view(), test.out.view());
  return test.out.bytes();
}

bool is_available(std::string_view implementation, DType dtype) {
  TestLayer::Options o;
  o.dtype = dtype;
  o.implementation = implementation;
  TestLayer test(o);
  try {
    output_of(test, 1);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::unavailable) return false;
    throw;
  }
  return true;
}

std::vector<double> values_of(const Tensor& tensor) {
  const ConstMatrixView v = tensor.view();
  std::vector<double> out;
  for (std::int64_t i = 0; i < v.rows; ++i) {
    for (std::int64_t j = 0; j < v.cols; ++j) {
      const std::byte* at = v.row(i) + static_cast<std::size_t>(j) * size_of(v.dtype);
      switch (v.dtype) {
        case DType::f32: out.push_back(*reinterpret_cast<const float*>(at)); break;
        case DType::bf16: out.push_back(to_float(*reinterpret_cast<const bf16*>(at))); break;
        case DType::f16: out.push_back(to_float(*reinterpret_cast<const f16*>(at))); break;
      }
    }
  }
  return out;
}

class Laws : public ::testing::TestWithParam<DType> {};

TEST_P(Laws, ThreadCountNeverChangesBits) {
  for (const std::string_view implementation : expert_implementations()) {
    if (!is_available(implementation, GetParam())) continue;
    SCOPED_TRACE(std::string(implementation));
    TestLayer::Options o;
    o.dtype = GetParam();
    o.implementation = implementation;
    o.tokens = 61;
    o.shared = o.shared_gate = true;
    TestLayer test(o);
    const std::vector<std::byte> one = output_of(test, 1);
    EXPECT_EQ(output_of(test, 1), one);
    EXPECT_EQ(output_of(test, 2), one);
    EXPECT_EQ(output_of(test, 5), one);
  }
}

TEST_P(Laws, AllLayoutsAgree) {
  TestLayer::Options o;
  o.dtype = GetParam();
  TestLayer test(o);
  const std::vector<std::byte> compact = output_of(test, 2);
  for (const Layout layout : {Layout::capacity, Layout::block, Layout::fused}) {
    test.config.plan.layout = layout;
    EXPECT_EQ(output_of(test, 2), compact) << name_of(layout);
  }
}

TEST_P(Laws, PermutingTokensPermutesResults) {
  TestLayer::Options o;
  o.dtype = GetParam();
  TestLayer test(o);
  output_of(test, 2);
  TestLayer permuted(o);
  const auto from = [&](std::int64_t t) { return (t * 11 + 4) % o.tokens; };  // gcd(11, 29) = 1
  const auto row_bytes = static_cast<std::size_t>(o.hidden) * size_of(o.dtype);
  std::vector<double> expected;
  const std::vector<double> values = values_of(test.out);
  for (std::int64_t t = 0; t < o.tokens; ++t) {
    std::memcpy(permuted.x.view().row(t), test.x.view().row(from(t)), row_bytes);
    const auto begin = values.begin() + from(t) * o.hidden;
    expected.insert(expected.end(), begin, begin + o.hidden);
  }
  output_of(permuted, 2);
  EXPECT_LE(relative_error(permuted.out.view(), expected, {}),
            layer_tolerance(o.dtype, o.dtype, o.hidden, o.ffn));
}

TEST_P(Laws, IdentityExpertsReturnTheirInput) {
  TestLayer::Options o;
  o.dtype = GetParam();
  o.gated = false;
  o.activation = Activation::relu;
  o.ffn = 2 * o.hidden;  // x = relu(x) - relu(-x)
  TestLayer test(o);
  for (std::int64_t e = 0; e < o.experts; ++e) {
    for (std::int64_t h = 0; h < o.hidden; ++h) {
      for (std::int64_t f = 0; f < o.ffn; ++f) {
        const float value = f == h ? 1.0f : f == h + o.hidden ? -1.0f : 0.0f;
        test.routed.up.set(e * o.ffn + f, h, value);
        test.routed.down.set(e * o.hidden + h, f, value);
      }
    }
  }
  for (const std::string_view implementation : expert_implementations()) {
    if (!is_available(implementation, GetParam())) continue;
    test.config.implementation = implementation;
    output_of(test, 2);
    EXPECT_LE(relative_error(test.out.view(), values_of(test.x), {}), epsilon_of(o.dtype))
        << implementation;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Laws, ::testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST(LayerProperties, RandomShapesMatchTheOracle) {
  EXPECT_TRUE(rc::check("layer matches the oracle", [] {
    TestLayer::Options o;
    o.dtype = *rc::gen::element(DType::f32, DType::bf16, DType::f16);
    o.tokens = *rc::gen::inRange(0, 50);
    o.hidden = *rc::gen::inRange(1, 80);
    o.ffn = *rc::gen::inRange(1, 80);
    o.experts = *rc::gen::inRange(1, 10);
    o.top_k = *rc::gen::inRange(1, o.experts + 1);
    o.gated = *rc::gen::arbitrary<bool>();
    o.activation = *rc::gen::element(Activation::silu, Activation::gelu, Activation::relu);
    o.shared = *rc::gen::arbitrary<bool>();
    o.shared_gate = o.shared && *rc::gen::arbitrary<bool>();
    o.gap = *rc::gen::element(0, 0, 1, 7);
    o.seed = *rc::gen::inRange<std::uint64_t>(0, 1000);
    o.plan.layout =
        *rc::gen::element(Layout::compact, Layout::capacity, Layout::block, Layout::fused);
    o.plan.capacity_factor = *rc::gen::element(0.0, 0.5, 1.0, 2.0);
    o.plan.drop_policy = *rc::gen::element(DropPolicy::position, DropPolicy::probs);
    o.plan.renormalise = *rc::gen::arbitrary<bool>();
    o.plan.block_rows = *rc::gen::inRange(1, 20);
    TestLayer test(o);
    Context context({.threads = *rc::gen::inRange(1, 4), .isa = {}});
    MoeLayer layer(context, test.config, test.weights);
    layer.forward(context, test.x.view(), test.out.view());
    // The norm of a few elements can be small by cancellation, which the tolerance does not know:
    // theirs counts as that of elements near 1, which is what goes into the sums.
    const auto elements = static_cast<double>(o.tokens * o.hidden);
    const double least_norm = elements < 64 ? std::sqrt(elements) : 0;
    RC_ASSERT(test.error_over_tolerance(layer, least_norm) <= (elements < 64 ? 4 : 2));
  }));
}

}  // namespace
}  // namespace switchyard
