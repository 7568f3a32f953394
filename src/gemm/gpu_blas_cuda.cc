#include <cublasLt.h>
#include <cublas_v2.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/native_cuda.h"
#include "gemm/gpu_blas.h"
#include "gemm/gpu_row_kernels.h"
#include "gemm/gpu_weights.h"
#include "switchyard/error.h"

// Rows are row-major: out [rows, columns] = in [rows, depth] weights [columns, depth]^T. cuBLAS,
// which is column-major, sees out^T [columns x rows] = op_T(weights^T [depth x columns]) *
// in^T [depth x rows], with the rows' strides as leading dimensions.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kWorkspaceBytes = 32 << 20;  // NVIDIA's advice for Hopper

void check(cublasStatus_t status, const char* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw Error(ErrorCode::unavailable,
              fmt::format("cuBLAS failed at {}: {}", doing, cublasGetStatusString(status)));
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F; }

/// The rows that one expert's weights meet, and where its product begins.
struct Part {
  std::int64_t expert, in_row, out_row, rows;
};

/// in [., depth] times weights [E, columns, depth]; all dense, of one 16-bit type.
struct Product {
  const std::byte* weights;
  std::int64_t columns, depth;
  const std::byte* in;
  std::byte* out;
  std::int64_t out_stride;  // elements

  const void* weights_of(const Part& part) const {
    return weights + part.expert * columns * depth * 2;
  }
  const void* in_of(const Part& part) const { return in + part.in_row * depth * 2; }
  void* out_of(const Part& part) const { return out + part.out_row * out_stride * 2; }
};

class Layout2d {
 public:
  Layout2d(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    check(cublasLtMatrixLayoutCreate(&layout_, type, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), stride),
          "describing a matrix");
  }
  ~Layout2d() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout2d(const Layout2d&) = delete;
  Layout2d& operator=(const Layout2d&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

/// cublasLtMatmul, with the algorithm its heuristic names for a shape, asked for once.
class LtProducts {
 public:
  explicit LtProducts(DType dtype) : type_(type_of(dtype)) {
    check(cublasLtCreate(&handle_), "starting cuBLASLt");
    check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof transposed),
          "a product");
    check(cublasLtMatmulPreferenceCreate(&preference_), "a preference");
    const auto bytes = static_cast<std::uint64_t>(kWorkspaceBytes);
    check(cublasLtMatmulPreferenceSetAttribute(
              preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes),
          "a preference");
  }
  ~LtProducts() {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
  }
  LtProducts(const LtProducts&) = delete;
  LtProducts& operator=(const LtProducts&) = delete;

  void run(cudaStream_t stream, std::byte* workspace, const Product& p, const Part& part) {
    const Layout2d weights(type_, p.depth, p.columns, p.depth);
    const Layout2d in(type_, p.depth, part.rows, p.depth);
    const Layout2d out(type_, p.columns, part.rows, p.out_stride);
    const auto key = std::tuple(part.rows, p.columns, p.depth, p.out_stride);
    auto found = algorithms_.find(key);
    if (found == algorithms_.end()) {
      cublasLtMatmulHeuristicResult_t best;
      int count = 0;
      check(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, weights.get(), in.get(), out.get(),
                                           out.get(), preference_, 1, &best, &count),
            "choosing an algorithm");
      if (count == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, "choosing an algorithm");
      found = algorithms_.emplace(key, best.algo).first;
    }
    const float one = 1, zero = 0;
    check(cublasLtMatmul(handle_, operation_, &one, p.weights_of(part), weights.get(),
                         p.in_of(part), in.get(), &zero, p.out_of(part), out.get(), p.out_of(part),
                         out.get(), &found->second, workspace, kWorkspaceBytes, stream),
          "a product");
  }

 private:
  cudaDataType_t type_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>, cublasLtMatmulAlgo_t>
      algorithms_;
};

class Handle {
 public:
  explicit Handle(cudaStream_t stream) {
    check(cublasCreate(&handle_), "starting cuBLAS");
    check(cublasSetStream(handle_, stream), "choosing a stream");
  }
  ~Handle() { cublasDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cublasHandle_t get() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

/// Every part a group of one product.
void run_grouped(cuda::Gpu& gpu, cublasHandle_t handle, cudaDataType_t type, const Product& p,
                 const std::vector<Part>& parts) {
  const std::size_t count = parts.size();
  std::vector<const void*> pointers(3 * count);
  std::vector<int> rows(count);
  for (std::size_t i = 0; i < count; ++i) {
    pointers[i] = p.weights_of(parts[i]);
    pointers[count + i] = p.in_of(parts[i]);
    pointers[2 * count + i] = p.out_of(parts[i]);
    rows[i] = static_cast<int>(parts[i].rows);
  }
  cuda::DeviceScope scope(gpu);
  auto** device = scope.take<const void*>(static_cast<std::int64_t>(3 * count));
  gpu.copy_to_device(device, pointers.data(), static_cast<std::int64_t>(3 * count * sizeof(void*)));
  const std::vector<cublasOperation_t> transposed(count, CUBLAS_OP_T), plain(count, CUBLAS_OP_N);
  const std::vector<int> columns(count, static_cast<int>(p.columns)),
      depths(count, static_cast<int>(p.depth)), out_strides(count, static_cast<int>(p.out_stride)),
      ones(count, 1);
  const std::vector<float> alpha(count, 1.0f), beta(count, 0.0f);
  check(cublasGemmGroupedBatchedEx(handle, transposed.data(), plain.data(), columns.data(),
                                   rows.data(), depths.data(), alpha.data(), device, type,
                                   depths.data(), device + count, type, depths.data(), beta.data(),
                                   const_cast<void**>(device + 2 * count), type, out_strides.data(),
                                   static_cast<int>(count), ones.data(), CUBLAS_COMPUTE_32F),
        "a grouped product");
}

void run_padded(cublasHandle_t handle, cudaDataType_t type, const Product& p, int num_experts,
                std::int64_t each) {
  const float one = 1, zero = 0;
  check(cublasGemmStridedBatchedEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(p.columns),
                                   static_cast<int>(each), static_cast<int>(p.depth), &one,
                                   p.weights, type, static_cast<int>(p.depth), p.columns * p.depth,
                                   p.in, type, static_cast<int>(p.depth), each * p.depth, &zero,
                                   p.out, type, static_cast<int>(p.out_stride), each * p.out_stride,
                                   num_experts, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "a batched product");
}

}  // namespace

struct BlasFfn::Impl {
  Impl(Context& context, const ExpertWeights& w, BlasWay way)
      : way(way),
        dtype(w.up.dtype),
        activation(w.activation),
        ffn(w.up.rows),
        hidden(w.up.cols),
        up(context, w.up),
        down(context, w.down),
        lt(dtype),
        handle(cuda::gpu_of(context).native().stream) {
    if (w.is_gated()) gate.emplace(context, w.gate);
    workspace.reserve(context, kWorkspaceBytes);
    check(cublasSetWorkspace(handle.get(), workspace.data(),
                             static_cast<std::size_t>(kWorkspaceBytes)),
          "setting its workspace");
  }

  void run(cuda::Gpu& gpu, const Product& product, const std::vector<Part>& parts,
           std::int64_t each) {
    switch (way) {
      case BlasWay::loop:
        for (const Part& part : parts) {
          lt.run(gpu.native().stream, workspace.data(), product, part);
        }
        return;
      case BlasWay::library: return run_grouped(gpu, handle.get(), type_of(dtype), product, parts);
      case BlasWay::padded:
        return run_padded(handle.get(), type_of(dtype), product, static_cast<int>(up.count()),
                          each);
    }
  }

  BlasWay way;
  DType dtype;
  Activation activation;
  std::int64_t ffn, hidden;
  DenseWeights up, down;
  std::optional<DenseWeights> gate;
  DeviceBuffer workspace;
  LtProducts lt;
  Handle handle;
};

BlasFfn::BlasFfn(Context& context, const ExpertWeights& weights, BlasWay way)
    : impl_(std::make_unique<Impl>(context, weights, way)) {}
BlasFfn::~BlasFfn() = default;
BlasFfn::BlasFfn(BlasFfn&&) noexcept = default;

std::string BlasFfn::name() const {
  int major = 0, minor = 0, patch = 0;
  check(cublasGetProperty(MAJOR_VERSION, &major), "reading its version");
  check(cublasGetProperty(MINOR_VERSION, &minor), "reading its version");
  check(cublasGetProperty(PATCH_LEVEL, &patch), "reading its version");
  return fmt::format("{} {}.{}.{}", impl_->way == BlasWay::loop ? "cuBLASLt" : "cuBLAS", major,
                     minor, patch);
}

std::int64_t BlasFfn::weight_bytes() const noexcept {
  return impl_->up.bytes() + impl_->down.bytes() + (impl_->gate ? impl_->gate->bytes() : 0);
}

void BlasFfn::forward(Context& context, const GpuRows& rows, const ConstMatrixView& in,
                      const MatrixView& out) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const auto experts = static_cast<std::size_t>(rows.num_experts);
  std::vector<std::int64_t> begin(experts), counts(experts);
  gpu.copy_to_host(begin.data(), rows.expert_begin, rows.num_experts * 8);
  gpu.copy_to_host(counts.data(), rows.expert_rows, rows.num_experts * 8);
  const bool pads = impl_->way == BlasWay::padded;
  const std::int64_t each = pads ? *std::max_element(counts.begin(), counts.end()) : 0;
  std::vector<Part> parts;
  for (std::size_t e = 0; e < experts; ++e) {
    if (counts[e] > 0) {
      parts.push_back({static_cast<std::int64_t>(e), begin[e], begin[e], counts[e]});
    }
  }
  if (parts.empty()) return;

  cuda::DeviceScope scope(gpu);
  const std::int64_t slots = pads ? rows.num_experts * each : rows.rows;
  const std::int64_t hidden = impl_->hidden, ffn = impl_->ffn;
  const std::byte* from = in.data;
  if (pads || rows.token_of_row != nullptr || in.row_stride != hidden) {
    std::byte* taken = scope.take<std::byte>(slots * hidden * 2);
    take_rows(gpu, rows, in, {each, hidden}, taken);
    from = taken;
  }
  std::byte* up = scope.take<std::byte>(slots * ffn * 2);
  impl_->run(gpu, {impl_->up.data(), ffn, hidden, from, up, ffn}, parts, each);
  std::byte* gate = nullptr;
  if (impl_->gate) {
    gate = scope.take<std::byte>(slots * ffn * 2);
    impl_->run(gpu, {impl_->gate->data(), ffn, hidden, from, gate, ffn}, parts, each);
  }
  activate_elements(gpu, impl_->dtype, impl_->activation, gate, up, slots * ffn);
  const Product down = {impl_->down.data(), hidden, ffn, up, out.data, out.row_stride};
  if (!pads) return impl_->run(gpu, down, parts, each);
  std::byte* padded = scope.take<std::byte>(slots * hidden * 2);
  Product to_padded = down;
  to_padded.out = padded;
  to_padded.out_stride = hidden;
  impl_->run(gpu, to_padded, parts, each);
  give_rows(gpu, rows, {each, hidden}, padded, out);
}

}  // namespace switchyard::gemm
