#pragma once

#include "switchyard/plan.h"

namespace switchyard {

/// The oracle of make_plan: plain code, one thread, nothing shared. Takes a valid routing and
/// options; the plan it returns is the one make_plan must give, bit for bit.
DispatchPlan plan_reference(const Routing& routing, const PlanOptions& options);

/// The oracle of validate.
bool is_valid_reference(const Routing& routing);

/// True when every field of the two is the same, weights compared as bits.
bool plans_are_equal(const DispatchPlan& a, const DispatchPlan& b);

/// True when `plan` is `reference` but for the order of rows within an expert, and row and token of
/// every kept assignment point at each other.
bool plans_agree_in_any_order(const Routing& routing, const DispatchPlan& plan,
                              const DispatchPlan& reference);

}  // namespace switchyard
