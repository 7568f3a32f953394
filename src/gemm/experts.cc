#include "switchyard/experts.h"

#include "base/check.h"
#include "gemm/gpu_experts.h"
#include "gemm/implementations.h"

namespace switchyard {
namespace {

constexpr std::array<Named<Activation>, 4> kActivations = {{
    {Activation::silu, "silu"},
    {Activation::gelu, "gelu"},
    {Activation::relu, "relu"},
    {Activation::silu, "swish"},
}};

using Factory = std::unique_ptr<Experts> (*)(Context&, const ExpertWeights&, DType);

struct Implementation {
  std::string_view name;
  Factory make;
};

constexpr Implementation kImplementations[] = {
    {"loop", gemm::make_loop},         {"padded", gemm::make_padded},
    {"capacity", gemm::make_capacity}, {"block", gemm::make_block},
    {"grouped", gemm::make_grouped},   {"masked_matmul", gemm::make_masked},
};

constexpr std::string_view kNames[] = {"loop",  "padded",  "capacity",
                                       "block", "grouped", "masked_matmul"};

void validate(const ConstMatricesView& w, std::string_view name, std::int64_t count,
              std::int64_t rows, std::int64_t cols, DType dtype, bool on_device) {
  require(w.count == count && w.rows == rows && w.cols == cols,
          "{} weights are [{}, {}, {}]: expected [{}, {}, {}]", name, w.count, w.rows, w.cols,
          count, rows, cols);
  require(w.dtype == dtype, "{} weights are {}: expected {} as up", name, name_of(w.dtype),
          name_of(dtype));
  require(w.data != nullptr, "{} weights are null", name);
  if (!on_device) require_cpu(name, w.device);
  require(w.row_stride >= cols, "{} weights have row stride {}: expected at least {}", name,
          w.row_stride, cols);
}

/// A context with a device takes weights from the host and from the device.
void validate(const ExpertWeights& weights, bool on_device) {
  const ConstMatricesView& up = weights.up;
  require(up.count > 0 && up.rows > 0 && up.cols > 0,
          "up weights are [{}, {}, {}]: expected positive sizes", up.count, up.rows, up.cols);
  validate(up, "up", up.count, up.rows, up.cols, up.dtype, on_device);
  validate(weights.down, "down", up.count, up.cols, up.rows, up.dtype, on_device);
  if (weights.is_gated())
    validate(weights.gate, "gate", up.count, up.rows, up.cols, up.dtype, on_device);
}

}  // namespace

void gemm::require_forward(const DispatchPlan& plan, const ConstMatrixView& in,
                           const MatrixView& out, std::int64_t num_experts, std::int64_t hidden,
                           DType activations) {
  require(plan.num_experts == num_experts, "the plan is for {} experts: expected {}",
          plan.num_experts, num_experts);
  const bool gather = plan.layout == Layout::fused;
  require_shape("in", in, gather ? plan.num_tokens : plan.num_rows(), hidden);
  require_shape("out", out, plan.num_rows(), hidden);
  require(in.dtype == activations && out.dtype == activations,
          "in is {} and out is {}: expected {}, which the experts were made for", name_of(in.dtype),
          name_of(out.dtype), name_of(activations));
}

std::string_view name_of(Activation activation) noexcept {
  return name_in(kActivations, activation);
}
Activation activation_from_name(std::string_view name) {
  return value_in(kActivations, "activation", name);
}

void Experts::forward_on_device(Context&, const DevicePlan&, ConstMatrixView, MatrixView) {
  throw Error(ErrorCode::unavailable,
              fmt::format("the plan is on a CUDA device: these experts ({}) were made for the CPU",
                          kernel()));
}

std::span<const std::string_view> expert_implementations(Device device) noexcept {
  return device == Device::cpu ? std::span<const std::string_view>(kNames)
                               : gemm::gpu_implementations();
}

std::unique_ptr<Experts> make_experts(Context& context, std::string_view implementation,
                                      const ExpertWeights& weights, DType activations) {
  const bool on_device = context.device() == Device::cuda;
  validate(weights, on_device);
  if (on_device) return gemm::make_gpu_experts(context, implementation, weights, activations);
  for (const Implementation& candidate : kImplementations) {
    if (candidate.name == implementation) return candidate.make(context, weights, activations);
  }
  throw Error(ErrorCode::invalid_argument,
              unknown_name("experts implementation", implementation, kNames));
}

}  // namespace switchyard
