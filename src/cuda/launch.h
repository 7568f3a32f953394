#pragma once

#include <algorithm>

#include "cuda/gpu.h"
#include "cuda/simt.h"

#if defined(__CUDACC__)
#include "cuda/native_cuda.h"
#else
#include "cuda/native_emulated.h"
#endif

// A kernel is a type:
//
//   struct AddOne {
//     static constexpr int kThreads = 256;
//     struct Args { float* x; std::int64_t count; };   // plain values and device pointers
//     struct Shared { float tile[256]; };              // the block's memory, uninitialised
//     static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared);
//   };
//
// which launch<AddOne>(gpu, blocks, args) runs on a device, and run_kernel<AddOne>(blocks, args)
// in the emulator. A kernel whose memory depends on the problem has
//   using Shared = std::byte;
// and is launched with the bytes it takes, 1024-byte aligned in the emulator and 128 on a device.

namespace switchyard::cuda {

#if defined(__CUDACC__)

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) static_kernel(typename Kernel::Args args) {
  __shared__ typename Kernel::Shared shared;
  Kernel::run(args, shared);
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) dynamic_kernel(typename Kernel::Args args) {
  extern __shared__ __align__(128) unsigned char dynamic_shared[];
  Kernel::run(args, *reinterpret_cast<typename Kernel::Shared*>(dynamic_shared));
}

template <class Kernel>
void launch(Gpu& gpu, std::int64_t blocks, const typename Kernel::Args& args) {
  if (blocks == 0) return;
  static_kernel<Kernel>
      <<<static_cast<unsigned>(blocks), Kernel::kThreads, 0, gpu.native().stream>>>(args);
  check(cudaGetLastError(), "launching a kernel");
}

template <class Kernel>
void launch(Gpu& gpu, std::int64_t blocks, const typename Kernel::Args& args,
            std::int64_t shared_bytes) {
  if (blocks == 0) return;
  constexpr std::int64_t kWithoutOptIn = 48 * 1024;
  if (shared_bytes > kWithoutOptIn) {
    check(cudaFuncSetAttribute(dynamic_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "asking for shared memory");
  }
  dynamic_kernel<Kernel><<<static_cast<unsigned>(blocks), Kernel::kThreads,
                           static_cast<std::size_t>(shared_bytes), gpu.native().stream>>>(args);
  check(cudaGetLastError(), "launching a kernel");
}

#else

/// Runs a kernel in the emulator; `seed` draws the order of blocks and threads.
template <class Kernel>
void run_kernel(std::int64_t blocks, const typename Kernel::Args& args, std::int64_t shared_bytes,
                std::uint64_t seed) {
  const simt::Grid grid{blocks, Kernel::kThreads, static_cast<std::size_t>(shared_bytes), seed};
  simt::run_grid(grid, [&args](std::byte* shared) {
    Kernel::run(args, *reinterpret_cast<typename Kernel::Shared*>(shared));
  });
}
template <class Kernel>
void run_kernel(std::int64_t blocks, const typename Kernel::Args& args, std::uint64_t seed = 1) {
  run_kernel<Kernel>(blocks, args, sizeof(typename Kernel::Shared), seed);
}

template <class Kernel>
void launch(Gpu& gpu, std::int64_t blocks, const typename Kernel::Args& args,
            std::int64_t shared_bytes) {
  Gpu::Native& native = gpu.native();
  native.submit(
      [=, &native] { run_kernel<Kernel>(blocks, args, shared_bytes, ++native.num_grids); });
}
template <class Kernel>
void launch(Gpu& gpu, std::int64_t blocks, const typename Kernel::Args& args) {
  launch<Kernel>(gpu, blocks, args, sizeof(typename Kernel::Shared));
}

#endif

/// The most blocks a grid may have in its first dimension.
inline constexpr std::int64_t kMaxBlocks = 2147483647;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace switchyard::cuda
