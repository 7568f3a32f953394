#pragma once

#include "base/arena.h"
#include "base/threads.h"
#include "switchyard/context.h"

namespace switchyard {

namespace cuda {
class Gpu;
std::shared_ptr<Gpu> open_gpu();  // cuda/gpu.h, which knows what a Gpu is
}  // namespace cuda

struct Context::Impl {
  Impl(int threads, Isa isa) : pool(threads), isa(isa) {}

  ThreadPool pool;
  Isa isa;
  Arena arena;
  std::shared_ptr<cuda::Gpu> gpu;  ///< null on the CPU
};

inline ThreadPool& pool_of(Context& context) noexcept { return context.impl().pool; }
inline Arena& arena_of(Context& context) noexcept { return context.impl().arena; }

}  // namespace switchyard
