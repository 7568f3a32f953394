#pragma once

#include <span>
#include <string_view>

#include "switchyard/plan.h"

namespace switchyard {

/// How a plan may be computed, ours first: people's ways, to be measured beside it. All give the
/// same bits.
///   counting   histogram, prefix sum, scatter
///   sort       stable argsort of expert ids
///   mask_scan  one scan over all assignments per expert
std::span<const std::string_view> plan_implementations() noexcept;

/// make_plan by one of them. Throws Error(invalid_argument) for a name not on the list.
void make_plan_with(std::string_view implementation, Context& context, const Routing& routing,
                    const PlanOptions& options, DispatchPlan& plan);

}  // namespace switchyard
