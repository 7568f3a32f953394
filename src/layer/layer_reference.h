#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/layer.h"

namespace switchyard {

/// The oracle: double precision, plain loops, nothing shared with the fast code but the public
/// types. Slow on purpose. An empty list of tokens or rows means all of them.

/// logits [T, E] in double, for the tokens listed.
std::vector<double> reference_logits(ConstMatrixView x, const RouterWeights& router,
                                     std::span<const std::int64_t> tokens = {});

/// What rounding allows a router's logits: f32 sums, whose error grows with the root of the depth,
/// and an epsilon of the tokens' dtype for each matrix between two products.
double logits_tolerance(const RouterWeights& router, DType tokens);

/// One row [H] through expert e: down(act(gate x) * up x).
std::vector<double> reference_expert(const ExpertWeights& weights, std::int64_t e,
                                     std::span<const double> x);

/// The same by the contract of switchyard/quant.h: `weights` are what the integers stand for, and x
/// and the row between up and down, the latter once stored as `activations`, are rounded to 255
/// steps of their largest magnitude / 127.
std::vector<double> reference_quantized_expert(const ExpertWeights& weights, std::int64_t e,
                                               std::span<const double> x, DType activations);

/// out [|tokens|, H]: for each listed token the sum over its kept assignments of
/// weight_of_assignment times its expert's output, plus the shared expert when there is one.
std::vector<double> reference_layer(ConstMatrixView x, const Routing& routing,
                                    const DispatchPlan& plan, const LayerWeights& weights,
                                    std::span<const std::int64_t> tokens);

/// Of a strategy that mixes. [H]: slot s, the mean of all tokens by dispatch, which expert
/// s / slots_per_expert is given.
std::vector<double> reference_slot(ConstMatrixView x, const SoftRouting& routing, std::int64_t s);

/// out [|tokens|, H]: for each listed token the mean of `slots` [S, H], what experts made of them,
/// by combine, plus the shared expert when there is one.
std::vector<double> reference_mixed(ConstMatrixView x, const SoftRouting& routing,
                                    std::span<const double> slots, const LayerWeights& weights,
                                    std::span<const std::int64_t> tokens);

/// A seeded choice of tokens that touches every expert with kept rows at least once, at least
/// `at_least` (or all) of them, ascending.
std::vector<std::int64_t> covering_tokens(const Routing& routing, const DispatchPlan& plan,
                                          std::int64_t at_least, std::uint64_t seed);

/// ||out - ref|| / ||ref||, 0 when both are 0; infinity when out has a value that is not finite or
/// only ref is 0.
double relative_error(ConstMatrixView out, std::span<const double> ref,
                      std::span<const std::int64_t> rows);

/// What rounding allows a layer of depth `hidden`, `ffn` computed in `dtype` with weights in
/// `weights`: storage rounds x, the activation, the expert row and the output once each
/// (4 epsilon / 2 with safety), accumulation in f32 adds sqrt(depth) of its epsilon.
double layer_tolerance(DType dtype, DType weights, std::int64_t hidden, std::int64_t ffn);

}  // namespace switchyard
