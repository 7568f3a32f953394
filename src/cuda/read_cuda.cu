#include <algorithm>

#include "cuda/launch.h"
#include "cuda/read.h"
#include "cuda/read_cuda.h"

namespace switchyard::cuda {
namespace {

constexpr std::int64_t kBlocksPerMultiprocessor = 8;  // of 256 threads: all it holds at once

}  // namespace

void read_all(Gpu& gpu, const std::byte* data, std::int64_t bytes, std::int32_t* sum) {
  const std::int64_t count = bytes / static_cast<std::int64_t>(sizeof(simt::Vector16));
  const std::int64_t blocks = std::min(ceil_div(count, ReadKernelCuda::kThreads),
                                       kBlocksPerMultiprocessor * gpu.info().multiprocessors);
  launch<ReadKernelCuda>(gpu, blocks, {reinterpret_cast<const simt::Vector16*>(data), count, sum});
}

}  // namespace switchyard::cuda
