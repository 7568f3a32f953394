#pragma once

#include "switchyard/context.h"

namespace switchyard {

/// The ISA of the kernel that combine runs on this context, as records name it.
Isa combine_isa(const Context& context) noexcept;

}  // namespace switchyard
