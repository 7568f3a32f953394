#pragma once

#include <cstdint>
#include <functional>

#include "plan/ranking.h"
#include "switchyard/context.h"
#include "switchyard/plan.h"
#include "switchyard/routing.h"

namespace switchyard {

/// Called for tokens [begin, end) whose rows are known, as make_plan_and (plan_impl.h) says.
using TokensPlaced = std::function<void(std::int64_t begin, std::int64_t end)>;

/// Turns places among an expert's assignments into rows: fills what `plan`, sized and with its
/// experts laid out, has for each token, assignment and row that is not padding. `placed` may be
/// empty.
void place_assignments(Context& context, const Routing& routing, const PlanOptions& options,
                       const Ranking& ranking, const TokensPlaced& placed, DispatchPlan& plan);

}  // namespace switchyard
