#pragma once

#include "switchyard/plan.h"
#include "switchyard/view.h"

namespace switchyard {

/// out[t, :] = sum over t's kept assignments a, in order, of
///             weight[a] * rows[row_of_assignment[a], :]  (+ out[t, :] when `accumulate`).
/// Sums in f32, rounds once; a token without kept assignments gets 0.
///   rows  [R, H] any dtype
///   out   [T, H] of the same dtype, not overlapping rows
/// Throws Error(invalid_argument) for a shape or dtype that does not fit the plan.
void combine(Context& context, const DispatchPlan& plan, ConstMatrixView rows, MatrixView out,
             bool accumulate = false);

}  // namespace switchyard
