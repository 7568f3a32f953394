#include <algorithm>
#include <cstring>

#include "combine/combine_cuda.h"
#include "combine/combine_device.h"
#include "cuda/launch.h"

namespace switchyard {
namespace {

template <class T, int kWidth>
void launch_combine(cuda::Gpu& gpu, std::int64_t num_tokens, const CombineRows& job) {
  cuda::launch<CombineKernelCuda<T, kWidth>>(gpu, std::min(num_tokens, cuda::kMaxBlocks),
                                             {job, num_tokens});
}

template <class T>
void launch_combine(cuda::Gpu& gpu, std::int64_t num_tokens, const CombineRows& job) {
  constexpr int kWidth = sizeof(simt::Vector16) / sizeof(T);
  const auto unaligned =
      reinterpret_cast<std::uintptr_t>(job.rows) | reinterpret_cast<std::uintptr_t>(job.out) |
      static_cast<std::uintptr_t>(job.row_stride | job.out_stride |
                                  job.cols * static_cast<std::int64_t>(sizeof(T)));
  if (unaligned % sizeof(simt::Vector16) == 0) {
    launch_combine<T, kWidth>(gpu, num_tokens, job);
  } else {
    launch_combine<T, 1>(gpu, num_tokens, job);
  }
}

}  // namespace

void combine_on_device(cuda::Gpu& gpu, DType dtype, std::int64_t num_tokens,
                       const CombineRows& job) {
  switch (dtype) {
    case DType::f32: return launch_combine<float>(gpu, num_tokens, job);
    case DType::bf16: return launch_combine<bf16>(gpu, num_tokens, job);
    case DType::f16: return launch_combine<f16>(gpu, num_tokens, job);
  }
}

}  // namespace switchyard
