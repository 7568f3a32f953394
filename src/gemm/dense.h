#pragma once

#include <memory>

#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard::gemm {

/// out [T, N] f32 = x [T, K] weights^T, weights [N, K] prepacked: the router's logits.
class DenseProduct {
 public:
  /// Copies the weights. `activations` is the dtype of x.
  DenseProduct(Context& context, ConstMatrixView weights, DType activations);
  ~DenseProduct();
  DenseProduct(DenseProduct&&) noexcept;
  DenseProduct& operator=(DenseProduct&&) noexcept;

  void run(Context& context, ConstMatrixView x, MatrixView out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard::gemm
