#pragma once

#include <optional>

#include "cuda/linear.h"
#include "switchyard/context.h"
#include "switchyard/router.h"
#include "switchyard/view.h"

namespace switchyard {

/// out [T, N] f32 = x weights^T on a device, for weights of f32 or x's dtype: where only they are
/// f32, x is widened first.
class TokenProduct {
 public:
  /// Throws Error(invalid_argument) for weights of another dtype; `name` is theirs.
  TokenProduct(Context& context, std::string_view name, const ConstMatrixView& weights,
               DType tokens);

  void run(Context& context, const ConstMatrixView& x, const MatrixView& out);

 private:
  DType weights_;
  cuda::Linear linear_;
};

/// Router on a device. gelu(up x) and x * (down ...) are rounded to the weights' dtype.
class DeviceRouter {
 public:
  /// Copies the weights. Throws as Router does.
  DeviceRouter(Context& context, const RouterWeights& weights, DType tokens);

  /// x [T, H] and logits [T, E] f32 are on the device.
  void run(Context& context, ConstMatrixView x, const MatrixView& logits);

 private:
  RouterArch arch_;
  DType weights_;
  std::int64_t hidden_, width_;
  std::optional<cuda::Linear> up_, down_;
  cuda::Linear out_;
};

}  // namespace switchyard
