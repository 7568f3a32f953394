#include <algorithm>

#include "cuda/launch.h"
#include "pack/pack_cuda.h"
#include "pack/pack_device.h"

namespace switchyard {
namespace {

// Blocks that a multiprocessor holds at once; more of them would only queue.
constexpr std::int64_t kBlocksPerMultiprocessor = 8;

template <bool kAligned>
void launch_pack(cuda::Gpu& gpu, const PackJob& job) {
  using Kernel = PackKernelCuda<kAligned>;
  const std::int64_t blocks = std::min(cuda::ceil_div(job.max_rows, Kernel::kWarps),
                                       kBlocksPerMultiprocessor * gpu.info().multiprocessors);
  cuda::launch<Kernel>(gpu, blocks,
                       {job.in, job.in_stride, job.token_of_row, job.num_rows, job.out,
                        job.out_stride, job.row_bytes});
}

}  // namespace

void pack_on_device(cuda::Gpu& gpu, const PackJob& job) {
  const auto unaligned =
      reinterpret_cast<std::uintptr_t>(job.in) | reinterpret_cast<std::uintptr_t>(job.out) |
      static_cast<std::uintptr_t>(job.in_stride | job.out_stride | job.row_bytes);
  if (unaligned % sizeof(simt::Vector16) == 0) {
    launch_pack<true>(gpu, job);
  } else {
    launch_pack<false>(gpu, job);
  }
}

}  // namespace switchyard
