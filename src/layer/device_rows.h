#pragma once

#include <cstdint>

#include "cuda/gpu.h"
#include "switchyard/view.h"

// Passes over rows that a router on a device makes between its products. All matrices are on the
// device; outputs are dense, of `x`'s shape.

namespace switchyard {

/// out f32 = x.
void widen_rows(cuda::Gpu& gpu, const ConstMatrixView& x, float* out);
/// out = gelu(x), x f32, rounded to out's dtype; out may be x where that is f32.
void gelu_rows(cuda::Gpu& gpu, const ConstMatrixView& x, const MatrixView& out);
/// out = gate * x, by element, rounded to out's dtype, which is x's; gate is f32 and dense.
void multiply_rows(cuda::Gpu& gpu, const ConstMatrixView& x, const float* gate,
                   const MatrixView& out);
/// x = sigmoid(x) for `count` elements.
void sigmoid_elements(cuda::Gpu& gpu, float* x, std::int64_t count);

}  // namespace switchyard
