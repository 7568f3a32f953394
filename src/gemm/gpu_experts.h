#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "switchyard/experts.h"

namespace switchyard::gemm {

/// Names that make_gpu_experts takes.
std::span<const std::string_view> gpu_implementations() noexcept;

/// make_experts for a context with a CUDA device; the weights have been validated but for where
/// they lie, which may be the host or the device.
/// Throws Error(invalid_argument) for a name not on the list or elements other than bf16 and f16.
std::unique_ptr<Experts> make_gpu_experts(Context& context, std::string_view implementation,
                                          const ExpertWeights& weights, DType activations);

}  // namespace switchyard::gemm
