#pragma once

#include "switchyard/context.h"
#include "switchyard/routing.h"

namespace switchyard {

/// validate(routing) on the context's threads: it sits in the timed path of every plan.
void validate_routing(Context& context, const Routing& routing);

}  // namespace switchyard
