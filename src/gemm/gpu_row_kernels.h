#pragma once

#include "cuda/gpu.h"
#include "gemm/gpu_rows.h"
#include "switchyard/experts.h"

// Passes over rows of 16-bit elements that the kernels of `grouped` do without: what libraries that
// know neither gather nor activation cost on top of their products.

namespace switchyard::gemm {

/// A padded row of matrices [E, each, columns]: row i of expert e is row e * each + i.
struct PaddedForm {
  std::int64_t each = 0;
  std::int64_t columns = 0;
};

/// Copies rows [tokens or R, columns] of `in` to expert rows: padded [E, each, columns] with zeros
/// beyond an expert's rows, or compact [R, columns] where each is 0.
void take_rows(cuda::Gpu& gpu, const GpuRows& rows, const ConstMatrixView& in,
               const PaddedForm& form, std::byte* to);

/// The way back: rows that experts own, from padded to `out` [R, columns].
void give_rows(cuda::Gpu& gpu, const GpuRows& rows, const PaddedForm& form, const std::byte* from,
               const MatrixView& out);

/// up[i] = act(gate[i]) * up[i], or act(up[i]) where gate is null, for `count` elements.
void activate_elements(cuda::Gpu& gpu, DType element, Activation activation, const std::byte* gate,
                       std::byte* up, std::int64_t count);

}  // namespace switchyard::gemm
