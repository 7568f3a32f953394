#include "gemm/dense.h"

#include <algorithm>

#include "base/check.h"
#include "base/context.h"
#include "gemm/product.h"

namespace switchyard::gemm {
namespace {

/// Outputs of one call of run_rows: 128 KiB of f32, half of a small L2.
constexpr std::int64_t kBlockOutputs = 32 << 10;

PackedWeights packed(Context& context, std::string_view name, ConstMatrixView weights) {
  require_shape(name, weights, weights.rows, weights.cols);
  const ConstMatricesView one{weights.data, weights.dtype,      1, weights.rows,
                              weights.cols, weights.row_stride, 0};
  return PackedWeights(context, one);
}

}  // namespace

struct DenseProduct::Impl {
  GroupedProduct product;
};

DenseProduct::DenseProduct(Context& context, ConstMatrixView weights, DType activations)
    : impl_(std::make_unique<Impl>(
          Impl{GroupedProduct(context, find_kernel(context.isa(), weights.dtype, activations),
                              packed(context, "weights", weights))})) {}

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

void DenseProduct::run_rows(ConstMatrixView x, MatrixView out, std::int64_t row, std::int64_t rows,
                            std::byte* scratch) const noexcept {
  impl_->product.run_rows({x, nullptr}, out, row, rows, scratch);
}

std::int64_t DenseProduct::rows_at_once() const noexcept {
  const std::int64_t most = kBlockOutputs / impl_->product.weights().columns();
  // A multiple of 64, the tokens that top-k strategies take together.
  return round_up(std::max<std::int64_t>(1, std::min(most, impl_->product.blocking().rows)), 64);
}

std::int64_t DenseProduct::scratch_bytes() const noexcept {
  return round_up(impl_->product.rows_scratch_bytes(rows_at_once()), 64);
}

struct DenseFfn::Impl {
  Activation activation;
  GroupedProduct up, down;
  Buffer hidden;
};

DenseFfn::DenseFfn(Context& context, ConstMatrixView up, ConstMatrixView down,
                   Activation activation, DType activations) {
  require(down.cols == up.rows && down.dtype == up.dtype,
          "down is {} [{}, {}]: expected {} and {} columns, as up has rows", name_of(down.dtype),
          down.rows, down.cols, name_of(up.dtype), up.rows);
  const Kernel& kernel = find_kernel(context.isa(), up.dtype, activations);
  impl_ = std::make_unique<Impl>(
      Impl{activation, GroupedProduct(context, kernel, packed(context, "up", up)),
           GroupedProduct(context, kernel, packed(context, "down", down)), Buffer()});
}

DenseFfn::~DenseFfn() = default;
DenseFfn::DenseFfn(DenseFfn&&) noexcept = default;
DenseFfn& DenseFfn::operator=(DenseFfn&&) noexcept = default;

void DenseFfn::run(Context& context, ConstMatrixView x, MatrixView out) {
  require_shape("x", x, x.rows, impl_->up.weights().depth());
  require_shape("out", out, x.rows, impl_->down.weights().columns());
  if (x.rows == 0) return;
  const Group group{0, x.rows, 0, 0};
  const PanelShape shape =
      PanelShape::of_outputs(impl_->up.kernel(), impl_->up.weights().columns());
  const Panel hidden{shape,
                     impl_->hidden.elements<std::byte>(shape.bytes(round_up(x.rows, kTileRows))),
                     std::min(impl_->up.blocking().rows, impl_->down.blocking().rows)};
  impl_->up.run(context, {&group, 1}, GatherSource{x, nullptr}, impl_->activation, hidden);
  impl_->down.run(context, {&group, 1}, hidden, out);
}

}  // namespace switchyard::gemm
