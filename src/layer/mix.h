#pragma once

#include <span>

#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard {

/// out [M, H] = weight x, weight [M, K] dense, x [K, H]: rows that are means of rows. Sums are f32
/// in the order of k, rounded once to out's dtype, which is x's.
void mix(Context& context, std::span<const float> weight, ConstMatrixView x, MatrixView out);

}  // namespace switchyard
