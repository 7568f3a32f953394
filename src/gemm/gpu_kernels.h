#pragma once

#include "cuda/gpu.h"
#include "gemm/gpu_config.h"
#include "gemm/grouped_args.h"

namespace switchyard::gemm {

/// Runs a product with the kernel of grouped_mma.h, for config.tile few, some or many.
/// `element` is bf16 or f16: of rows, weights and output.
void launch_grouped_mma(cuda::Gpu& gpu, const GpuConfig& config, DType element,
                        const GroupedArgs& args);

/// The same with weights in the records of int4_layout.h.
void launch_grouped_int4(cuda::Gpu& gpu, const GpuConfig& config, DType element,
                         const GroupedArgs& args);

/// The same with the kernel of grouped_wgmma.h, for config.tile wide. Needs compute capability 9.0.
void launch_grouped_wgmma(cuda::Gpu& gpu, const GpuConfig& config, DType element,
                          const GroupedArgs& args);

}  // namespace switchyard::gemm
