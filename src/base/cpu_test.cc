#include "base/cpu.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(CacheSizes, AreZeroOrGrowWithTheirLevel) {
  const CacheSizes sizes = cache_sizes();
  EXPECT_GE(sizes.l1, 0);
  EXPECT_LT(sizes.l1, 4 << 20);
  EXPECT_TRUE(sizes.l2 == 0 || sizes.l2 >= sizes.l1) << sizes.l2;
  EXPECT_TRUE(sizes.l3 == 0 || sizes.l3 >= sizes.l2) << sizes.l3;
}

TEST(CacheSizes, AreOfWholeLines) {
  const CacheSizes sizes = cache_sizes();
  for (const std::int64_t size : {sizes.l1, sizes.l2, sizes.l3}) EXPECT_EQ(size % 64, 0);
}

TEST(CpuFeatures, WiderOnesComeWithTheNarrower) {
  const CpuFeatures& f = cpu_features();
  EXPECT_TRUE(f.avx2 || !f.avx512);
  EXPECT_TRUE(f.avx512 || !f.avx512_bf16);
  EXPECT_TRUE(f.avx512_bf16 || !f.amx_bf16);
  EXPECT_TRUE(f.avx512_bf16 || !f.fast_dot_bf16);
}

}  // namespace
}  // namespace switchyard
