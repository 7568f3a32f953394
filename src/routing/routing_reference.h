#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "switchyard/routing.h"

namespace switchyard {

/// The oracle of routing: every built-in strategy in double precision and plain loops, sharing
/// nothing with the fast code. Input and parameters are those route() accepts. Where `close_calls`
/// is given it becomes [T]: tokens whose choice hangs on scores that f32 cannot tell apart.
/// Throws Error(invalid_argument) for a strategy it does not know.
Routing reference_route(std::string_view strategy, const RouterInput& input,
                        const RouterParams& params, std::vector<bool>* close_calls = nullptr);

/// The oracle of strategies that mix: SoftRouting's matrices in double.
struct ReferenceSoftRouting {
  std::vector<double> dispatch;  ///< [S, T]
  std::vector<double> combine;   ///< [T, S]
};

ReferenceSoftRouting reference_route_soft(std::string_view strategy, ConstMatrixView logits);

/// "" when `fast` is `reference`: the same shape, the same experts in the same order, weights
/// within weight_tol of a token's largest weight, or both below 1e-16. Otherwise a sentence about
/// the first difference. Tokens that are close calls may choose otherwise, also how many.
std::string first_difference(const Routing& fast, const Routing& reference, double weight_tol,
                             const std::vector<bool>& close_calls = {});

}  // namespace switchyard
