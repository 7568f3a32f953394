#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/philox.h"
#include "layer/layer_reference.h"

namespace switchyard::testing {

/// A matrix that owns its memory, with `gap` poisoned elements (NaN) after each row.
class Tensor {
 public:
  Tensor(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t gap = 0)
      : dtype_(dtype), rows_(rows), cols_(cols), stride_(cols + gap) {
    // All bits set is a NaN in every dtype.
    bytes_.assign(static_cast<std::size_t>(rows * stride_) * size_of(dtype), std::byte{0xff});
  }

  void set(std::int64_t i, std::int64_t j, float value) {
    std::byte* at = bytes_.data() + static_cast<std::size_t>(i * stride_ + j) * size_of(dtype_);
    switch (dtype_) {
      case DType::f32: return put(at, value);
      case DType::bf16: return put(at, from_float<bf16>(value));
      case DType::f16: return put(at, from_float<f16>(value));
    }
  }

  Tensor& fill_normal(std::uint64_t seed, std::uint64_t stream, float scale) {
    const Philox random(seed, stream);
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < cols_; ++j) {
        set(i, j, scale * random.normal(static_cast<std::uint64_t>(i * cols_ + j)));
      }
    }
    return *this;
  }

  MatrixView view() { return {bytes_.data(), dtype_, rows_, cols_, stride_}; }
  ConstMatrixView view() const { return {bytes_.data(), dtype_, rows_, cols_, stride_}; }

  /// The rows as `count` matrices one below the other.
  ConstMatricesView matrices(std::int64_t count) const {
    return {bytes_.data(), dtype_, count, rows_ / count, cols_, stride_, rows_ / count * stride_};
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  template <class T>
  static void put(std::byte* at, T value) {
    std::memcpy(at, &value, sizeof value);
  }

  DType dtype_;
  std::int64_t rows_, cols_, stride_;
  std::vector<std::byte> bytes_;
};

/// Weights of `experts` FFNs, drawn so that outputs are of the inputs' size.
struct TestExperts {
  TestExperts(DType dtype, std::int64_t experts, std::int64_t hidden, std::int64_t ffn, bool gated,
              Activation activation, std::uint64_t seed, std::int64_t gap = 0)
      : gate(dtype, gated ? experts * ffn : 0, hidden, gap),
        up(dtype, experts * ffn, hidden, gap),
        down(dtype, experts * hidden, ffn, gap) {
    const float scale_in = 1.5f / std::sqrt(static_cast<float>(hidden));
    gate.fill_normal(seed, 1, scale_in);
    up.fill_normal(seed, 2, scale_in);
    down.fill_normal(seed, 3, 1.5f / std::sqrt(static_cast<float>(ffn)));
    if (gated) weights.gate = gate.matrices(experts);
    weights.up = up.matrices(experts);
    weights.down = down.matrices(experts);
    weights.activation = activation;
  }
  TestExperts(const TestExperts&) = delete;
  TestExperts& operator=(const TestExperts&) = delete;

  Tensor gate, up, down;
  ExpertWeights weights;
};

/// One layer with its input, small enough for the oracle to check every token.
struct TestLayer {
  struct Options {
    DType dtype = DType::f32;
    std::string implementation = "grouped", strategy = "topk_softmax";
    PlanOptions plan{};
    std::int64_t tokens = 29, hidden = 40, ffn = 24;
    int experts = 6, top_k = 2;
    bool gated = true;
    Activation activation = Activation::silu;
    bool shared = false, shared_gate = false;
    std::int64_t gap = 0;
    std::uint64_t seed = 17;
  };

  explicit TestLayer(const Options& o)
      : options(o),
        routed(o.dtype, o.experts, o.hidden, o.ffn, o.gated, o.activation, o.seed, o.gap),
        common(o.dtype, 1, o.hidden, o.ffn + 3, o.gated, o.activation, o.seed + 1, o.gap),
        router(DType::f32, o.experts, o.hidden, o.gap),
        common_gate(o.dtype, 1, o.hidden, o.gap),
        x(o.dtype, o.tokens, o.hidden, o.gap),
        out(o.dtype, o.tokens, o.hidden, o.gap) {
    x.fill_normal(o.seed, 5, 1);
    router.fill_normal(o.seed, 6, 2 / std::sqrt(static_cast<float>(o.hidden)));
    common_gate.fill_normal(o.seed, 7, 1 / std::sqrt(static_cast<float>(o.hidden)));
    weights.router = router.view();
    weights.experts = routed.weights;
    if (o.shared) weights.shared = common.weights;
    if (o.shared_gate) weights.shared_gate = common_gate.view();
    config.strategy = StrategyRegistry::builtin().find(o.strategy);
    config.router.top_k = o.top_k;
    config.plan = o.plan;
    config.implementation = o.implementation;
    config.dtype = o.dtype;
  }
  TestLayer(const TestLayer&) = delete;
  TestLayer& operator=(const TestLayer&) = delete;

  /// Error of `out` over the tolerance: at most 1 where the layer is right.
  /// `least_norm`: what the reference's norm counts as where it is smaller.
  double error_over_tolerance(const MoeLayer& layer, double least_norm = 0) const {
    const std::vector<double> ref =
        reference_layer(x.view(), layer.routing(), layer.plan(), weights, {});
    double square = 0;
    for (const double value : ref) square += value * value;
    const double norm = std::sqrt(square);
    const double scale = norm > 0 && norm < least_norm ? norm / least_norm : 1;
    return scale * relative_error(out.view(), ref, {}) /
           layer_tolerance(options.dtype, options.dtype, options.hidden, options.ffn + 3);
  }

  Options options;
  TestExperts routed, common;
  Tensor router, common_gate, x, out;
  LayerWeights weights;
  LayerConfig config;
};

}  // namespace switchyard::testing
