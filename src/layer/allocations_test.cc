// A program of its own, because it counts every allocation of the process.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "layer/layer_testing.h"

namespace {

std::atomic<long> num_allocations{0};

void* counted(std::size_t alignment, std::size_t bytes) noexcept {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = nullptr;
  return posix_memalign(&memory, std::max(alignment, sizeof(void*)), bytes) == 0 ? memory : nullptr;
}

void* counted_or_throw(std::size_t alignment, std::size_t bytes) {
  void* memory = counted(alignment, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted_or_throw(sizeof(void*), bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted_or_throw(static_cast<std::size_t>(alignment), bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which bring their own
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  return counted(alignment, bytes);
}
#endif

namespace switchyard {
namespace {

using testing::TestLayer;

class Allocations : public ::testing::TestWithParam<DType> {};

TEST_P(Allocations, NoneInSteadyState) {
  for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block, Layout::fused}) {
    TestLayer::Options o;
    o.dtype = GetParam();
    o.tokens = 130;
    o.shared = o.shared_gate = true;
    o.plan.layout = layout;
    TestLayer test(o);
    Context context({.threads = 2, .isa = {}});
    MoeLayer layer(context, test.config, test.weights);
    const auto allocations_of = [&](std::int64_t tokens) {
      MatrixView x = test.x.view(), out = test.out.view();
      x.rows = out.rows = tokens;
      const long before = num_allocations.load();
      layer.forward(context, x, out);
      return num_allocations.load() - before;
    };
    EXPECT_GT(allocations_of(o.tokens), 0) << "the count does not work";
    EXPECT_EQ(allocations_of(o.tokens), 0) << name_of(layout);
    EXPECT_EQ(allocations_of(o.tokens), 0) << name_of(layout);
    EXPECT_EQ(allocations_of(o.tokens / 2), 0) << name_of(layout) << ", fewer tokens";
  }
}

TEST(AllocationsOfStrategies, NoneInSteadyState) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    TestLayer::Options o;
    o.strategy = strategy.name;
    o.tokens = 130;
    TestLayer test(o);
    Context context({.threads = 2, .isa = {}});
    MoeLayer layer(context, test.config, test.weights);
    layer.forward(context, test.x.view(), test.out.view());
    const long before = num_allocations.load();
    layer.forward(context, test.x.view(), test.out.view());
    EXPECT_EQ(num_allocations.load() - before, 0) << strategy.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Allocations, ::testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace switchyard
