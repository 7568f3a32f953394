#pragma once

#include "base/arena.h"
#include "base/threads.h"
#include "switchyard/context.h"

namespace switchyard {

struct Context::Impl {
  Impl(int threads, Isa isa) : pool(threads), isa(isa) {}

  ThreadPool pool;
  Isa isa;
  Arena arena;
};

inline ThreadPool& pool_of(Context& context) noexcept { return context.impl().pool; }
inline Arena& arena_of(Context& context) noexcept { return context.impl().arena; }

}  // namespace switchyard
