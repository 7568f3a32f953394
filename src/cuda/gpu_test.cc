#include "cuda/gpu.h"

#include <gtest/gtest.h>

#include <vector>

#include "cuda/device_testing.h"
#include "cuda/read.h"
#include "switchyard/error.h"

namespace switchyard::cuda {
namespace {

TEST(Gpu, IsRefusedInPlainWordsWhereThereIsNone) {
  if (has_device()) GTEST_SKIP() << "this machine has a CUDA device";
  try {
    const Context context({.device = Device::cuda});
    FAIL() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unavailable);
    EXPECT_EQ(std::string(e.what()).rfind("device cuda is not available: ", 0), 0u) << e.what();
  }
  Context context;
  EXPECT_EQ(context.device(), Device::cpu);
  EXPECT_THROW(gpu_of(context), Error);
}

class GpuTest : public DeviceTest {};

TEST_F(GpuTest, CopiesAndFills) {
  Gpu& gpu = gpu_of(*context_);
  DeviceScope scope(gpu);
  auto* a = scope.take<int>(1000);
  auto* b = scope.take<int>(1000);
  std::vector<int> in(1000), out(1000);
  for (int i = 0; i < 1000; ++i) in[static_cast<std::size_t>(i)] = i;
  gpu.copy_to_device(a, in.data(), 4000);
  gpu.fill(b, 0, 4000);
  gpu.copy(b, a, 2000);
  gpu.copy_to_host(out.data(), b, 4000);
  for (std::size_t i = 500; i < 1000; ++i) in[i] = 0;
  EXPECT_EQ(out, in);
}

TEST_F(GpuTest, ScratchIsReusedAtItsAddress) {
  Gpu& gpu = gpu_of(*context_);
  std::byte *first = nullptr, *large = nullptr;
  {
    DeviceScope scope(gpu);
    first = scope.take<std::byte>(100);
    large = scope.take<std::byte>(8 << 20);
    const DeviceScope inner(gpu);
  }
  DeviceScope scope(gpu);
  EXPECT_EQ(scope.take<std::byte>(100), first);
  EXPECT_EQ(scope.take<std::byte>(8 << 20), large);
}

TEST_F(GpuTest, AGraphDoesItsWorkWhenLaunched) {
  Gpu& gpu = gpu_of(*context_);
  DeviceScope scope(gpu);
  auto* data = scope.take<std::byte>(64);
  gpu.fill(data, 1, 64);
  Graph graph(gpu, [&] { gpu.fill(data, 2, 64); });
  std::byte seen{};
  gpu.copy_to_host(&seen, data, 1);
  EXPECT_EQ(seen, std::byte{1});
  graph.launch(gpu);
  gpu.copy_to_host(&seen, data, 1);
  EXPECT_EQ(seen, std::byte{2});
}

TEST_F(GpuTest, ReadsEveryByte) {
  Gpu& gpu = gpu_of(*context_);
  for (const std::int64_t words : {4, 400, 123456}) {
    std::vector<std::uint32_t> in(static_cast<std::size_t>(words));
    std::uint32_t expected = 5;
    for (std::size_t i = 0; i < in.size(); ++i) {
      in[i] = static_cast<std::uint32_t>(i * i * 2654435761u);
      expected += in[i];
    }
    DeviceScope scope(gpu);
    auto* data = scope.take<std::byte>(4 * words);
    auto* sum = scope.take<std::int32_t>(1);
    const std::int32_t begin = 5;
    gpu.copy_to_device(sum, &begin, 4);
    gpu.copy_to_device(data, in.data(), 4 * words);
    read_all(gpu, data, 4 * words, sum);
    std::int32_t got = 0;
    gpu.copy_to_host(&got, sum, 4);
    EXPECT_EQ(static_cast<std::uint32_t>(got), expected) << words;
  }
}

TEST_F(GpuTest, EventsAreInOrder) {
  Gpu& gpu = gpu_of(*context_);
  Event begin(gpu), end(gpu);
  begin.record(gpu);
  end.record(gpu);
  EXPECT_GE(end.ms_since(begin), 0);
}

}  // namespace
}  // namespace switchyard::cuda
