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

struct Shape {
  std::int64_t num_experts, hidden;
  DType dtype;
};

/// What all experts on a device share: their shape, the checks, the refusal of the CPU's plans.
/// `Ffn` computes.
template <class Ffn>
class GpuExperts final : public Experts {
 public:
  GpuExperts(Context& context, const Shape& shape, std::string kernel, Ffn ffn)
      : num_experts_(shape.num_experts),
        hidden_(shape.hidden),
        dtype_(shape.dtype),
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
std::unique_ptr<Experts> make(Context& context, const Shape& shape, std::string kernel, Ffn ffn) {
  return std::make_unique<GpuExperts<Ffn>>(context, shape, std::move(kernel), std::move(ffn));
}

Shape shape_of(const ExpertWeights& weights) {
  return {weights.up.count, weights.up.cols, weights.up.dtype};
}

std::unique_ptr<Experts> make_blas([[maybe_unused]] Context& context,
                                   [[maybe_unused]] const ExpertWeights& weights,
                                   [[maybe_unused]] BlasWay way) {
#if defined(SWITCHYARD_HAS_CUDA)
  BlasFfn ffn(context, weights, way);
  std::string kernel = fmt::format("{} {}", ffn.name(), name_of(weights.up.dtype));
  return make(context, shape_of(weights), std::move(kernel), std::move(ffn));
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
    return make(context, shape_of(weights),
                fmt::format("{} {}", has_wgmma ? "wgmma" : "mma.sync", name_of(dtype)),
                make_gpu_ffn(context, weights));
  }
  throw Error(ErrorCode::invalid_argument,
              unknown_name("experts implementation on a CUDA device", implementation, kNames));
}

GpuInt4Builder::GpuInt4Builder(Context& context, std::int64_t num_experts,
                               const QuantizedExperts& like, DType activations)
    : num_experts_(num_experts),
      hidden_(like.up.cols),
      gated_(like.is_gated()),
      activation_(like.activation),
      activations_(activations),
      up_(context, like.up, num_experts, gated_),
      down_(context, like.down, num_experts, false) {
  require(like.up.format == QuantFormat::int4, "weights are {}: expected int4 on a CUDA device",
          name_of(like.up.format));
  require(activations == DType::bf16 || activations == DType::f16,
          "activations are {}: expected bf16 or f16 on a CUDA device", name_of(activations));
}

void GpuInt4Builder::place(Context& context, std::int64_t first, const QuantizedExperts& weights) {
  up_.place(context, first, gated_ ? &weights.gate : nullptr, weights.up);
  down_.place(context, first, nullptr, weights.down);
}

std::unique_ptr<Experts> GpuInt4Builder::finish(Context& context) && {
  return make(context, Shape{num_experts_, hidden_, activations_}, "mma.sync int4",
              GpuFfn<GpuInt4Weights>(std::move(up_), std::move(down_), hidden_, gated_, activation_,
                                     activations_));
}

}  // namespace switchyard::gemm
