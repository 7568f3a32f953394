#pragma once

#include "bench/measure.h"

namespace switchyard {

/// The layer target for strategies that mix: a linear router with a row per slot, dense dispatch
/// and combine. Sources are those with a router, uniform and gate: logits of another would be for
/// experts, not for slots.
MakeSubject prepare_soft_layer(Context& context, const Cell& cell, const RoutingSource& source,
                               WeightCache& weights);
Cost soft_layer_cost(const Cell& cell, const ExpectedLoad& load);

}  // namespace switchyard
