#include "layer/device_router.h"

#include "base/check.h"
#include "cuda/gpu.h"
#include "layer/device_rows.h"
#include "layer/router.h"

namespace switchyard {
namespace {

MatrixView take(cuda::DeviceScope& scope, DType dtype, std::int64_t rows, std::int64_t cols) {
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  return {scope.take<std::byte>(rows * cols * element), dtype, rows, cols, cols, Device::cuda};
}

/// x, or x in f32 where the weights it meets are.
ConstMatrixView as_weights(cuda::Gpu& gpu, cuda::DeviceScope& scope, const ConstMatrixView& x,
                           DType weights) {
  if (x.dtype == weights) return x;
  const MatrixView wide = take(scope, DType::f32, x.rows, x.cols);
  widen_rows(gpu, x, reinterpret_cast<float*>(wide.data));
  return wide;
}

const RouterWeights& checked(const RouterWeights& weights, DType tokens) {
  require_router(weights, tokens);
  return weights;
}

const ConstMatrixView& checked(std::string_view name, const ConstMatrixView& weights,
                               DType tokens) {
  require(weights.dtype == DType::f32 || weights.dtype == tokens,
          "{} is {}: expected f32 or the tokens' {}", name, name_of(weights.dtype),
          name_of(tokens));
  return weights;
}

}  // namespace

TokenProduct::TokenProduct(Context& context, std::string_view name, const ConstMatrixView& weights,
                           DType tokens)
    : weights_(weights.dtype), linear_(context, checked(name, weights, tokens)) {}

void TokenProduct::run(Context& context, const ConstMatrixView& x, const MatrixView& out) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  cuda::DeviceScope scope(gpu);
  linear_.run(context, as_weights(gpu, scope, x, weights_), out);
}

DeviceRouter::DeviceRouter(Context& context, const RouterWeights& weights, DType tokens)
    : arch_(weights.arch),
      weights_(weights.out.dtype),
      hidden_(weights.hidden()),
      width_(weights.width()),
      out_(context, checked(weights, tokens).out) {
  if (arch_ != RouterArch::linear) up_.emplace(context, weights.up);
  if (arch_ == RouterArch::mlp_hadamard) down_.emplace(context, weights.down);
}

void DeviceRouter::run(Context& context, ConstMatrixView x, const MatrixView& logits) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  cuda::DeviceScope scope(gpu);
  x = as_weights(gpu, scope, x, weights_);
  if (arch_ == RouterArch::linear) return out_.run(context, x, logits);
  const MatrixView wide = take(scope, DType::f32, x.rows, width_);
  up_->run(context, x, wide);
  const MatrixView inner = weights_ == DType::f32 ? wide : take(scope, weights_, x.rows, width_);
  gelu_rows(gpu, wide, inner);
  if (arch_ == RouterArch::mlp) return out_.run(context, inner, logits);
  const MatrixView gates = take(scope, DType::f32, x.rows, hidden_);
  down_->run(context, inner, gates);
  const MatrixView product = take(scope, weights_, x.rows, hidden_);
  multiply_rows(gpu, x, reinterpret_cast<const float*>(gates.data), product);
  out_.run(context, product, logits);
}

}  // namespace switchyard
