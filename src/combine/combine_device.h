#pragma once

#include "combine/combine_kernel.h"
#include "switchyard/dtype.h"

namespace switchyard {

namespace cuda {
class Gpu;
}

/// CombineRows of device memory, tokens [0, num_tokens).
void combine_on_device(cuda::Gpu& gpu, DType dtype, std::int64_t num_tokens,
                       const CombineRows& job);

}  // namespace switchyard
