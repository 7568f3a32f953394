#pragma once

#include "gemm/epilogue_kernel.h"
#include "gemm/quant_kernel.h"

namespace switchyard::gemm {

/// The function of Finish for a kind, an activation (ignored by store) and an element type. With
/// `stream` it writes, past the caches, the rows kept and its own behind them: out and row_bytes
/// are multiples of 64, columns 32.
using FindFinishFn = FinishFn (*)(EpilogueKind kind, Activation act, DType element,
                                  bool stream) noexcept;
#if defined(SWITCHYARD_X86_KERNELS)
FinishFn find_finish_avx512_bf16(EpilogueKind kind, Activation act, DType element,
                                 bool stream) noexcept;
#endif

}  // namespace switchyard::gemm
