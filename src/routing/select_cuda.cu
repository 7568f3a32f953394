#include "routing/select_cuda.h"

#include "cuda/device_layout.h"
#include "cuda/launch.h"

namespace switchyard::select_cuda {

static_assert(kChunkTokens == cuda::kChunkTokens);

void select_on_device(cuda::Gpu& gpu, const SelectArgs& args) {
  const std::int64_t chunks = cuda::num_chunks(args.num_tokens);
  if (args.num_experts <= 128) {
    cuda::launch<SelectKernel<4>>(gpu, chunks, args);
  } else if (args.num_experts <= 256) {
    cuda::launch<SelectKernel<8>>(gpu, chunks, args);
  } else {
    cuda::launch<SelectKernel<32>>(gpu, chunks, args);
  }
}

}  // namespace switchyard::select_cuda
