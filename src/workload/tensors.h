#pragma once

#include <cstdint>

#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard {

/// Random tensors. Element [i, j] of an [R, C] matrix depends on (seed, stream, i * C + j) alone:
/// not on threads, strides or dtype, except that bf16 and f16 hold the f32 value rounded. Give each
/// tensor of a cell its own stream, below 2^48.

/// Uniform with mean 0 and standard deviation `scale`: within sqrt(3) * scale of 0. For weights.
/// Throws Error(invalid_argument) for a malformed view or a scale that is not finite.
void fill_uniform(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream,
                  float scale);

/// Normal with mean 0 and standard deviation `scale`; about ten times slower. For activations.
void fill_normal(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream,
                 float scale);

}  // namespace switchyard
