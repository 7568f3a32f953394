#pragma once

#include <span>
#include <string_view>

#include "switchyard/context.h"
#include "topk/topk_kernel.h"

namespace switchyard {

struct TopkVariant {
  Isa isa;
  TopkKernel topk;
  SigmoidKernel sigmoid;
};

/// What this build holds, fastest first; the last is portable.
std::span<const TopkVariant> topk_variants() noexcept;

/// The fastest variant not above `isa`.
const TopkVariant& topk_variant(Isa isa) noexcept;

}  // namespace switchyard
