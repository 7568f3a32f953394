#pragma once

#include <memory>

#include "cuda/gpu.h"
#include "switchyard/view.h"

namespace switchyard::cuda {

/// out [T, N] f32 = x [T, H] weights [N, H]^T on a device, for weights that are used again and
/// again: cublasLtMatmul with sums in f32 (f32 values are not rounded to TF32).
class Linear {
 public:
  /// Copies the weights, from the host or the device.
  Linear(Context& context, const ConstMatrixView& weights);
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  /// What a number of tokens needs is looked up the first time.
  /// Throws Error(invalid_argument) for an x of another depth or dtype than the weights, or an out
  /// that is not [T, N] f32.
  void run(Context& context, const ConstMatrixView& x, const MatrixView& out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard::cuda
