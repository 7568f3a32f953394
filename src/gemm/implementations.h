#pragma once

#include <memory>

#include "switchyard/experts.h"
#include "switchyard/quant.h"

namespace switchyard::gemm {

/// The factories behind make_experts, which has validated the weights. Each may throw
/// Error(unavailable) naming the package that this build lacks.
std::unique_ptr<Experts> make_grouped(Context& context, const ExpertWeights& weights,
                                      DType activations);
std::unique_ptr<Experts> make_capacity(Context& context, const ExpertWeights& weights,
                                       DType activations);
std::unique_ptr<Experts> make_block(Context& context, const ExpertWeights& weights,
                                    DType activations);
std::unique_ptr<Experts> make_loop(Context& context, const ExpertWeights& weights,
                                   DType activations);
std::unique_ptr<Experts> make_padded(Context& context, const ExpertWeights& weights,
                                     DType activations);
std::unique_ptr<Experts> make_masked(Context& context, const ExpertWeights& weights,
                                     DType activations);

/// `experts` on rows copied into padded ones: what capacity and block are.
std::unique_ptr<Experts> pad_to_capacity(std::unique_ptr<Experts> experts, DType activations);
std::unique_ptr<Experts> pad_to_blocks(std::unique_ptr<Experts> experts, DType activations);

/// Throws Error(invalid_argument) for shapes, formats or groups that do not fit each other.
void require_valid(const QuantizedExperts& weights);

/// Throws Error(invalid_argument) unless `in` and `out` fit the plan and experts of this shape.
void require_forward(const DispatchPlan& plan, const ConstMatrixView& in, const MatrixView& out,
                     std::int64_t num_experts, std::int64_t hidden, DType activations);

}  // namespace switchyard::gemm
