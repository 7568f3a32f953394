#include <cublasLt.h>

#include <map>
#include <tuple>

#include "base/check.h"
#include "cuda/linear.h"
#include "cuda/native_cuda.h"
#include "switchyard/device.h"

// cuBLAS is column-major: it sees out^T [N x T] = op_T(weights^T [H x N]) x^T [H x T].

namespace switchyard::cuda {
namespace {

constexpr std::uintptr_t kAlignment = 256;  // of what cudaMalloc gives, and the most that matters
constexpr std::int64_t kWorkspaceBytes = 32 << 20;  // what NVIDIA advises for Hopper

void check_blas(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw Error(ErrorCode::unavailable,
              fmt::format("cuBLASLt failed at {}: {}", doing, cublasLtGetStatusString(status)));
}

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return CUDA_R_32F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::f16: return CUDA_R_16F;
  }
  return CUDA_R_32F;
}

class MatrixLayout {
 public:
  /// Columns of `stride` elements, `depth` of which are used.
  MatrixLayout(DType dtype, std::int64_t depth, std::int64_t columns, std::int64_t stride) {
    check_blas(
        cublasLtMatrixLayoutCreate(&layout_, type_of(dtype), static_cast<std::uint64_t>(depth),
                                   static_cast<std::uint64_t>(columns), stride),
        "describing a matrix");
  }
  ~MatrixLayout() { cublasLtMatrixLayoutDestroy(layout_); }
  MatrixLayout(const MatrixLayout&) = delete;
  MatrixLayout& operator=(const MatrixLayout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

}  // namespace

struct Linear::Impl {
  Impl() {
    check_blas(cublasLtCreate(&handle), "starting");
    check_blas(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "describing a product");
    const cublasOperation_t transpose = CUBLAS_OP_T;
    check_blas(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                              sizeof transpose),
               "describing a product");
  }
  ~Impl() {
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
    if (handle != nullptr) cublasLtDestroy(handle);
  }

  /// `alignment`: that of x and out, in bytes.
  cublasLtMatmulAlgo_t choose(const MatrixLayout& w, const MatrixLayout& x, const MatrixLayout& out,
                              std::uint32_t alignment) const {
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(cublasLtMatmulPreferenceCreate(&preference), "asking for an algorithm");
    const std::size_t bytes = kWorkspaceBytes;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &bytes, sizeof bytes);
    for (const auto operand :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      cublasLtMatmulPreferenceSetAttribute(preference, operand, &alignment, sizeof alignment);
    }
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, product, w.get(), x.get(), out.get(), out.get(), preference, 1, &result, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    check_blas(found > 0 ? status : CUBLAS_STATUS_NOT_SUPPORTED, "choosing an algorithm");
    return result.algo;
  }

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  DeviceBuffer memory, workspace;
  MatrixView weights;
  /// By rows, stride of x, alignment.
  std::map<std::tuple<std::int64_t, std::int64_t, std::uint32_t>, cublasLtMatmulAlgo_t> algorithm;
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
  impl_->workspace.reserve(context, kWorkspaceBytes);
}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

void Linear::run(Context& context, const ConstMatrixView& x, const MatrixView& out) {
  Impl& impl = *impl_;
  const MatrixView& w = impl.weights;
  require(x.dtype == w.dtype && x.cols == w.cols,
          "x is {} with {} columns: expected {} with {} as the weights", name_of(x.dtype), x.cols,
          name_of(w.dtype), w.cols);
  require(out.dtype == DType::f32 && out.rows == x.rows && out.cols == w.rows,
          "out is {} [{}, {}]: expected f32 [{}, {}]", name_of(out.dtype), out.rows, out.cols,
          x.rows, w.rows);
  if (x.rows == 0) return;
  const MatrixLayout w_layout(w.dtype, w.cols, w.rows, w.row_stride);
  const MatrixLayout x_layout(x.dtype, x.cols, x.rows, x.row_stride);
  const MatrixLayout out_layout(DType::f32, w.rows, x.rows, out.row_stride);
  const auto address = reinterpret_cast<std::uintptr_t>(x.data) |
                       reinterpret_cast<std::uintptr_t>(out.data) | kAlignment;
  const auto alignment = static_cast<std::uint32_t>(address & -address);
  const std::tuple key(x.rows, x.row_stride, alignment);
  auto found = impl.algorithm.find(key);
  if (found == impl.algorithm.end()) {
    found =
        impl.algorithm.emplace(key, impl.choose(w_layout, x_layout, out_layout, alignment)).first;
  }
  const float one = 1, zero = 0;
  check_blas(cublasLtMatmul(impl.handle, impl.product, &one, w.data, w_layout.get(), x.data,
                            x_layout.get(), &zero, out.data, out_layout.get(), out.data,
                            out_layout.get(), &found->second, impl.workspace.data(),
                            kWorkspaceBytes, gpu_of(context).native().stream),
             "a product");
}

}  // namespace switchyard::cuda
