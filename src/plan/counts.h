#pragma once

#include <cstdint>
#include <vector>

#include "plan/ranking.h"
#include "switchyard/plan.h"

namespace switchyard {

/// What a plan has to know of the experts of a routing, noted while the routing was made: with it
/// make_plan_counted need not read them again. Whoever sets `hold` vouches for a valid routing.
struct AssignmentCounts {
  bool hold = false;
  TokenRanges ranges;
  std::vector<std::int32_t> of_range;  ///< [ranges, E] assignments of each expert
};

/// make_plan(), the same bits, from `counts` where they hold; uses them up.
void make_plan_counted(Context& context, const Routing& routing, AssignmentCounts& counts,
                       const PlanOptions& options, DispatchPlan& plan);

}  // namespace switchyard
