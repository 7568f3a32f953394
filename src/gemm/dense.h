#pragma once

#include <memory>

#include "switchyard/context.h"
#include "switchyard/experts.h"
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

  /// The same bits for rows [row, row + rows) of x and out, on the calling thread alone.
  /// rows <= rows_at_once(); `scratch` is scratch_bytes() long, 64-byte aligned.
  void run_rows(ConstMatrixView x, MatrixView out, std::int64_t row, std::int64_t rows,
                std::byte* scratch) const noexcept;
  /// As many rows as share a pass over the weights and leave their outputs in L2.
  std::int64_t rows_at_once() const noexcept;
  std::int64_t scratch_bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// out [T, N] f32 = act(x [T, K] up^T) down^T, up [M, K] and down [N, M] prepacked. The activation
/// is rounded to what the kernel multiplies in.
class DenseFfn {
 public:
  /// Copies the weights, which are of one dtype. `activations` is the dtype of x.
  DenseFfn(Context& context, ConstMatrixView up, ConstMatrixView down, Activation activation,
           DType activations);
  ~DenseFfn();
  DenseFfn(DenseFfn&&) noexcept;
  DenseFfn& operator=(DenseFfn&&) noexcept;

  void run(Context& context, ConstMatrixView x, MatrixView out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard::gemm
