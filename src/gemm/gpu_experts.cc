#include "gemm/gpu_experts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "cuda/gpu.h"
#include "gemm/gpu_blas.h"
#include "gemm/gpu_ffn.h"
#include "switchyard/device.h"

namespace switchyard::gemm {
namespace {

constexpr std::string_view kNames[] = {"loop", "library", "padded", "grouped"};

std::string arch_of(const cuda::GpuInfo& gpu) {
  return fmt::format("sm_{}{}", gpu.major, gpu.minor);
}

/// What all experts on a device share: their shape, the checks, the refusal of the CPU's plans.
/// `Ffn` computes.
template <class Ffn>
class GpuExperts final : public Experts {
 public:
  GpuExperts(Context& context, const ExpertWeights& weights, std::string kernel, Ffn ffn)
      : num_experts_(weights.up.count),
        hidden_(weights.up.cols),
        dtype_(weights.up.dtype),
        kernel_(std::move(kernel)),
        isa_(arch_of(cuda::gpu_of(context).info())),
        ffn_(std::move(ffn)) {}

  void forward(Context&, const DispatchPlan&, ConstMatrixView, MatrixView) override {
    throw Error(
        ErrorCode::unavailable,
        fmt::format("the plan is on the CPU: these experts ({}) were made for a CUDA device",
                    kernel_));
  }

  std::string kernel() const override { return kernel_; }
  std::string isa() const override { return isa_; }
  std::int64_t weight_bytes() const override { return ffn_.weight_bytes(); }

 private:
  void forward_on_device(Context& context, const DevicePlan& plan, ConstMatrixView in,
                         MatrixView out) override {
    require(plan.num_experts == num_experts_, "the plan is for {} experts: expected {}",
            plan.num_experts, num_experts_);
    const bool gathers = plan.layout == Layout::fused;
    if (gathers) {
      require_shape("in", in, plan.num_tokens, hidden_, Device::cuda);
    } else {
      require(in.rows >= plan.max_rows, "in has {} rows: expected at least max_rows, {}", in.rows,
              plan.max_rows);
      require_shape("in", in, in.rows, hidden_, Device::cuda);
    }
    require(out.rows >= plan.max_rows, "out has {} rows: expected at least max_rows, {}", out.rows,
            plan.max_rows);
    require_shape("out", out, out.rows, hidden_, Device::cuda);
    require(in.dtype == dtype_ && out.dtype == dtype_, "in is {} and out is {}: expected {}",
            name_of(in.dtype), name_of(out.dtype), name_of(dtype_));
    GpuRows rows;
    rows.num_experts = plan.num_experts;
    rows.rows = plan.max_rows;
    rows.expected = std::min(plan.max_rows, plan.num_assignments);
    rows.expert_begin = plan.expert_begin;
    rows.expert_rows = plan.expert_rows;
    rows.token_of_row = gathers ? plan.token_of_row : nullptr;
    ffn_.forward(context, rows, in, out);
  }

  std::int64_t num_experts_, hidden_;
  DType dtype_;
  std::string kernel_, isa_;
  Ffn ffn_;
};

template <class Ffn>
std::unique_ptr<Experts> make(Context& context, const ExpertWeights& weights, std::string kernel,
                              Ffn ffn) {
  return std::make_unique<GpuExperts<Ffn>>(context, weights, std::move(kernel), std::move(ffn));
}

std::unique_ptr<Experts> make_blas([[maybe_unused]] Context& context,
                                   [[maybe_unused]] const ExpertWeights& weights,
                                   [[maybe_unused]] BlasWay way) {
#if defined(SWITCHYARD_HAS_CUDA)
  BlasFfn ffn(context, weights, way);
  std::string kernel = fmt::format("{} {}", ffn.library(), name_of(weights.up.dtype));
  return make(context, weights, std::move(kernel), std::move(ffn));
#else
  throw Error(ErrorCode::unavailable, "this build has no cuBLAS: it was made without CUDA");
#endif
}

}  // namespace

std::span<const std::string_view> gpu_implementations() noexcept { return kNames; }

std::unique_ptr<Experts> make_gpu_experts(Context& context, std::string_view implementation,
                                          const ExpertWeights& weights, DType activations) {
  const DType dtype = weights.up.dtype;
  require(dtype == DType::bf16 || dtype == DType::f16,
          "up weights are {}: expected bf16 or f16 on a CUDA device", name_of(dtype));
  require(activations == dtype, "activations are {}: expected {} as the weights, on a CUDA device",
          name_of(activations), name_of(dtype));
  if (implementation == "loop") return make_blas(context, weights, BlasWay::loop);
  if (implementation == "library") return make_blas(context, weights, BlasWay::library);
  if (implementation == "padded") return make_blas(context, weights, BlasWay::padded);
  if (implementation == "grouped") {
    const bool has_wgmma = cuda::gpu_of(context).info().major == 9;
    return make(context, weights,
                fmt::format("{} {}", has_wgmma ? "wgmma" : "mma.sync", name_of(dtype)),
                make_gpu_ffn(context, weights));
  }
  throw Error(ErrorCode::invalid_argument,
              unknown_name("experts implementation on a CUDA device", implementation, kNames));
}

}  // namespace switchyard::gemm
