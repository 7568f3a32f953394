#include "routing/select_cuda.h"

#include <algorithm>

#include "cuda/device_layout.h"
#include "cuda/launch.h"
#include "routing/noise_cuda.h"

namespace switchyard::select_cuda {

static_assert(kChunkTokens == cuda::kChunkTokens);

void add_noise_on_device(cuda::Gpu& gpu, const NoiseArgs& args) {
  const std::int64_t groups = cuda::ceil_div(args.num_experts, 4);
  cuda::launch<NoiseKernel>(
      gpu,
      std::min(cuda::ceil_div(args.num_tokens * groups, NoiseKernel::kThreads), cuda::kMaxBlocks),
      args);
}

void select_on_device(cuda::Gpu& gpu, const SelectArgs& args) {
  const std::int64_t chunks = cuda::num_chunks(args.num_tokens);
  if (args.rule.draws != 0) {
    cuda::launch<SelectKernel<32, true>>(gpu, chunks, args);
  } else if (args.num_experts <= 128) {
    cuda::launch<SelectKernel<4>>(gpu, chunks, args);
  } else if (args.num_experts <= 256) {
    cuda::launch<SelectKernel<8>>(gpu, chunks, args);
  } else {
    cuda::launch<SelectKernel<32>>(gpu, chunks, args);
  }
}

}  // namespace switchyard::select_cuda
