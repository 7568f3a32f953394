#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "cuda/gpu.h"

// What sources that speak to CUDA share.

namespace switchyard::cuda {

struct Gpu::Native {
  ~Native();
  cudaStream_t stream = nullptr;
};

/// Throws Error(unavailable), or out_of_memory, with CUDA's reason unless `status` is success.
void check(cudaError_t status, std::string_view doing);

}  // namespace switchyard::cuda
