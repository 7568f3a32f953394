#include "gemm/dense.h"

#include "base/check.h"
#include "gemm/product.h"

namespace switchyard::gemm {

struct DenseProduct::Impl {
  GroupedProduct product;
};

DenseProduct::DenseProduct(Context& context, ConstMatrixView weights, DType activations) {
  require_shape("weights", weights, weights.rows, weights.cols);
  const ConstMatricesView one{weights.data, weights.dtype,      1, weights.rows,
                              weights.cols, weights.row_stride, 0};
  impl_ = std::make_unique<Impl>(
      Impl{GroupedProduct(context, find_kernel(context.isa(), weights.dtype, activations),
                          PackedWeights(context, one))});
}

DenseProduct::~DenseProduct() = default;
DenseProduct::DenseProduct(DenseProduct&&) noexcept = default;
DenseProduct& DenseProduct::operator=(DenseProduct&&) noexcept = default;

void DenseProduct::run(Context& context, ConstMatrixView x, MatrixView out) {
  const PackedWeights& weights = impl_->product.weights();
  require_shape("x", x, x.rows, weights.depth());
  require_shape("out", out, x.rows, weights.columns());
  if (x.rows == 0) return;
  const Group group{0, x.rows, 0, 0};
  const GatherSource source{x, nullptr};
  impl_->product.run(context, {&group, 1}, source, out);
}

}  // namespace switchyard::gemm
