#pragma once

#include <string_view>
#include <vector>

#include "switchyard/pack.h"
#include "switchyard/plan.h"

namespace switchyard {

/// Ways to bring rows into expert order: pack after a plan by one of plan_implementations(), or
/// `fused`, which copies each token's row as soon as its places are known and reads it once.
std::vector<std::string_view> permute_implementations();

struct PermuteTimes {
  double plan_ms = 0;  ///< 0 where plan and copy are one
  double pack_ms = 0;
};

/// Makes the plan and the first plan.num_rows() of `rows`.
PermuteTimes permute(std::string_view implementation, Context& context, const Routing& routing,
                     const PlanOptions& options, ConstMatrixView x, DispatchPlan& plan,
                     MatrixView rows);

/// Whether plan_ms is measured.
bool permute_plans_first(std::string_view implementation) noexcept;

}  // namespace switchyard
