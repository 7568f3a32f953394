#pragma once

#include "switchyard/context.h"

namespace switchyard {

/// The ISA of the kernel that pack runs on this context, as records name it.
Isa pack_isa(const Context& context) noexcept;

}  // namespace switchyard
