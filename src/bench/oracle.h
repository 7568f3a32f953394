#pragma once

#include <span>
#include <vector>

#include "bench/draws.h"
#include "bench/measure.h"
#include "switchyard/experts.h"
#include "switchyard/layer.h"
#include "switchyard/plan.h"
#include "switchyard/routing.h"

namespace switchyard {

/// Throws Error(check_failed) unless `plan` is the reference's, bit for bit; where the plan
/// implementation fixes no order of an expert's rows, in any.
void check_plan(const Routing& routing, const PlanOptions& options, const DispatchPlan& plan,
                std::string_view plan_implementation = "counting");

/// Throws Error(check_failed) naming the first token routed otherwise.
void require_same_routing(const Routing& expected, const Routing& actual);

/// `routing` of draw 0 against the reference strategy. Throws Error(check_failed) naming the first
/// token routed otherwise, but for choices that f32 cannot tell apart.
Check check_routing(const Cell& cell, const Draws& draws, const Routing& routing);
/// The same for logits that are not the draw's, in the last bits.
Check check_routing(const Cell& cell, const RouterInput& input, const Routing& routing);

/// The router's logits of x, on a seeded sample of tokens. Throws Error(check_failed).
void check_logits(Context& context, ConstMatrixView x, const RouterWeights& router,
                  ConstMatrixView logits, std::uint64_t seed);

/// Throws Error(invalid_argument) for a source that carries assignments only.
void require_logits(const Cell& cell, const Draws& draws);

/// Throws Error(check_failed) unless the plan dropped as many assignments, and left as many tokens
/// with none, as the drop policy says, counted from the routing alone.
void check_drops(const Routing& routing, const PlanOptions& options, const DispatchPlan& plan);

/// Packed rows are copies: the plan (see check_plan) and every bit must agree, so the tolerance
/// is 0.
Check check_packed(const Routing& routing, const PlanOptions& options, const DispatchPlan& plan,
                   ConstMatrixView x, ConstMatrixView rows,
                   std::string_view plan_implementation = "counting");

/// Sums over a seeded sample of tokens that covers every expert, with the plan's weights.
Check check_combined(Context& context, const Routing& routing, const DispatchPlan& plan,
                     ConstMatrixView rows, ConstMatrixView out, std::uint64_t seed);

/// Tokens or rows to check when each costs `multiply_adds` in the reference: what about two seconds
/// of one core afford, 4 to 64.
std::int64_t affordable_sample(double multiply_adds);

/// A row of a matrix and the expert that it goes through.
struct ExpertInput {
  std::int64_t expert = 0, row = 0;
};

/// Of packed rows; with Layout::fused of the tokens that they would be copies of.
std::vector<ExpertInput> inputs_of_rows(const DispatchPlan& plan,
                                        std::span<const std::int64_t> rows);

/// Of the kept assignments of the listed tokens, in their order.
std::vector<ExpertInput> inputs_of_tokens(const Routing& routing, const DispatchPlan& plan,
                                          std::span<const std::int64_t> tokens);

/// ref [|tokens|, H]: for each listed token the sum, with the plan's weights, of what experts made
/// of inputs_of_tokens.
std::vector<double> reference_sums(const DispatchPlan& plan, std::span<const std::int64_t> tokens,
                                   std::span<const double> expert_rows, std::int64_t hidden);

/// ref [|inputs|, H]: each row of `in` through its expert, in parallel.
std::vector<double> reference_experts(Context& context, const ExpertWeights& weights,
                                      ConstMatrixView in, std::span<const ExpertInput> inputs);

/// First, last and seeded other rows of every expert that has any.
std::vector<std::int64_t> covering_rows(const DispatchPlan& plan, std::int64_t per_expert,
                                        std::uint64_t seed);

}  // namespace switchyard
