#include "base/check.h"
#include "cuda/linear.h"
#include "cuda/native_emulated.h"
#include "switchyard/device.h"

namespace switchyard::cuda {
namespace {

float element(const ConstMatrixView& matrix, std::int64_t row, std::int64_t column) {
  const std::byte* at = matrix.row(row);
  switch (matrix.dtype) {
    case DType::f32: return reinterpret_cast<const float*>(at)[column];
    case DType::bf16: return to_float(reinterpret_cast<const bf16*>(at)[column]);
    case DType::f16: return to_float(reinterpret_cast<const f16*>(at)[column]);
  }
  return 0;
}

}  // namespace

struct Linear::Impl {
  DeviceBuffer memory;
  MatrixView weights;
};

Linear::Linear(Context& context, const ConstMatrixView& weights) : impl_(std::make_unique<Impl>()) {
  const auto bytes =
      weights.rows * weights.cols * static_cast<std::int64_t>(size_of(weights.dtype));
  impl_->weights = {impl_->memory.reserve(context, bytes),
                    weights.dtype,
                    weights.rows,
                    weights.cols,
                    weights.cols,
                    Device::cuda};
  copy(context, weights, impl_->weights);
}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

void Linear::run(Context& context, const ConstMatrixView& x, const MatrixView& out) {
  const ConstMatrixView w = impl_->weights;
  require(x.dtype == w.dtype && x.cols == w.cols,
          "x is {} with {} columns: expected {} with {} as the weights", name_of(x.dtype), x.cols,
          name_of(w.dtype), w.cols);
  require(out.dtype == DType::f32 && out.rows == x.rows && out.cols == w.rows,
          "out is {} [{}, {}]: expected f32 [{}, {}]", name_of(out.dtype), out.rows, out.cols,
          x.rows, w.rows);
  gpu_of(context).native().submit([=] {
    for (std::int64_t t = 0; t < x.rows; ++t) {
      for (std::int64_t n = 0; n < w.rows; ++n) {
        float sum = 0;
        for (std::int64_t h = 0; h < x.cols; ++h) sum += element(x, t, h) * element(w, n, h);
        reinterpret_cast<float*>(out.row(t))[n] = sum;
      }
    }
  });
}

}  // namespace switchyard::cuda
