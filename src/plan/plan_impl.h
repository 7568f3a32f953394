#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "switchyard/plan.h"

namespace switchyard {

/// How a plan may be computed, ours first: people's ways, to be measured beside it. All but
/// `atomic` give the same bits.
///   counting   histogram, prefix sum, scatter
///   sort       stable argsort of expert ids
///   mask_scan  one scan over all assignments per expert
///   atomic     a shared row counter per expert: an expert's rows lie in the order in which threads
///              reached it, which no two runs need share
std::span<const std::string_view> plan_implementations() noexcept;

/// Whether the rows of an expert are in token order, as make_plan's are.
bool plan_is_deterministic(std::string_view implementation) noexcept;

/// make_plan by one of them. Throws Error(invalid_argument) for a name not on the list, and for
/// `atomic` with drop policy position, which needs the token order.
void make_plan_with(std::string_view implementation, Context& context, const Routing& routing,
                    const PlanOptions& options, DispatchPlan& plan);

/// make_plan that hands out tokens as soon as their rows are known: calls placed(begin, end) for
/// ranges that together cover [0, T), on the thread that placed them. Of the plan those tokens'
/// part is there by then, and where experts begin. `placed` must not throw.
void make_plan_and(Context& context, const Routing& routing, const PlanOptions& options,
                   DispatchPlan& plan,
                   const std::function<void(std::int64_t begin, std::int64_t end)>& placed);

}  // namespace switchyard
