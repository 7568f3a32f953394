#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "gemm/gpu_int4_weights.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// Names that make_gpu_experts takes.
std::span<const std::string_view> gpu_implementations() noexcept;

/// make_experts for a context with a CUDA device; the weights have been validated but for where
/// they lie, which may be the host or the device.
/// Throws Error(invalid_argument) for a name not on the list or elements other than bf16 and f16.
std::unique_ptr<Experts> make_gpu_experts(Context& context, std::string_view implementation,
                                          const ExpertWeights& weights, DType activations);

/// int4 experts for a context with a CUDA device, filled one or more at a time.
class GpuInt4Builder {
 public:
  /// Memory for `num_experts` experts like those of `like`.
  /// Throws Error(invalid_argument) for int8 weights and activations other than bf16 and f16.
  GpuInt4Builder(Context& context, std::int64_t num_experts, const QuantizedExperts& like,
                 DType activations);

  void place(Context& context, std::int64_t first, const QuantizedExperts& weights);

  std::unique_ptr<Experts> finish(Context& context) &&;

 private:
  std::int64_t num_experts_, hidden_;
  bool gated_;
  Activation activation_;
  DType activations_;
  GpuInt4Weights up_, down_;
};

}  // namespace switchyard::gemm
