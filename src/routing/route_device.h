#pragma once

#include "switchyard/routing.h"

namespace switchyard {

/// Throws as route() does for shapes and parameters, with logits on a device.
void validate_device_input(const RouterInput& input, const RouterParams& params);

}  // namespace switchyard
