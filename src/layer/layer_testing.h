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

/// Routes token t to `top_k` distinct experts among the first `reach`, with weights that sum to 1.
inline Routing random_routing(std::int64_t tokens, int experts, int top_k, int reach,
                              std::uint64_t seed) {
  Routing routing{tokens, experts, {0}, {}, {}};
  const Philox random(seed, 4);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto words = random.block(static_cast<std::uint64_t>(t));
    const int first = static_cast<int>(words[0] % static_cast<std::uint32_t>(reach));
    float sum = 0;
    for (int k = 0; k < top_k; ++k) {
      routing.expert.push_back((first + k) % reach);
      routing.weight.push_back(0.1f + Philox::unit(words[1 + static_cast<std::size_t>(k) % 3]));
      sum += routing.weight.back();
    }
    for (int k = 0; k < top_k; ++k)
      routing.weight[routing.weight.size() - 1 - static_cast<std::size_t>(k)] /= sum;
    routing.token_begin.push_back(static_cast<std::int64_t>(routing.expert.size()));
  }
  return routing;
}

}  // namespace switchyard::testing
