#pragma once

#include "switchyard/routing.h"

namespace switchyard {

/// Throws as route() does for shapes and parameters, with logits on a device.
void validate_device_input(const RouterInput& input, const RouterParams& params);

/// Throws Error(unavailable) where routes_on_device does not hold, saying why and which do.
void require_routes_on_device(const Strategy& strategy);

}  // namespace switchyard
