#pragma once

#include <string_view>
#include <vector>

#include "switchyard/plan.h"
#include "switchyard/view.h"

namespace switchyard {

/// rows[r, :] = x[token_of_row[r], :], and 0 where token_of_row[r] = -1.
///   x     [T, H] any dtype
///   rows  [R, H] of the same dtype, not overlapping x
/// Padding rows are written, so poisoned memory never reaches a GEMM.
/// Throws Error(invalid_argument) for a shape or dtype that does not fit the plan.
void pack(Context& context, const DispatchPlan& plan, ConstMatrixView x, MatrixView rows);

}  // namespace switchyard
