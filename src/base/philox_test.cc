#include "base/philox.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/philox_blocks.h"
#include "switchyard/context.h"

namespace switchyard {
namespace {

// Known answer of Philox4x32-10 for zero key and counter (Salmon et al. 2011, kat_vectors).
TEST(Philox, KnownAnswer) {
  const auto words = Philox(0, 0).block(0);
  EXPECT_EQ(words[0], 0x6627e8d5u);
  EXPECT_EQ(words[1], 0xe169c58du);
  EXPECT_EQ(words[2], 0xbc57ac4cu);
  EXPECT_EQ(words[3], 0x9b00dbd8u);
}

// Also where the counter carries into its second word.
TEST(Philox, ManyBlocksAreTheBlocksOneByOne) {
  std::vector<PhiloxBlocksFn> variants = {philox_blocks_portable};
#if defined(SWITCHYARD_X86_KERNELS)
  if (isa_is_available(Isa::avx2)) variants.push_back(philox_blocks_avx2);
#endif
  const Philox random(0x0123456789abcdefu, 0xfedcba9876543210u);
  for (const PhiloxBlocksFn run : variants) {
    for (const std::uint64_t first :
         {std::uint64_t{0}, (std::uint64_t{1} << 32) - 3, ~std::uint64_t{0}}) {
      for (const std::int64_t count : {4, 8, 28}) {
        std::vector<std::uint32_t> words(static_cast<std::size_t>(4 * count));
        run({random.seed(), random.stream(), first, count, words.data()});
        for (std::int64_t i = 0; i < 4 * count; ++i) {
          const auto block = random.block(first + static_cast<std::uint64_t>(i / 4));
          ASSERT_EQ(words[static_cast<std::size_t>(i)], block[static_cast<std::size_t>(i % 4)])
              << i;
        }
      }
    }
  }
}

TEST(Philox, StreamsAndSeedsDiffer) {
  EXPECT_NE(Philox(1, 0).word(5), Philox(2, 0).word(5));
  EXPECT_NE(Philox(1, 0).word(5), Philox(1, 1).word(5));
  EXPECT_NE(Philox(1, 0).word(5), Philox(1, 0).word(6));
}

TEST(Philox, MomentsAreThoseOfTheDistribution) {
  constexpr int kCount = 100000;
  const Philox random(17, 3);
  double sum = 0, squares = 0, uniforms = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.normal(i);
    sum += x;
    squares += x * x;
    const double u = random.uniform(i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    uniforms += u;
  }
  EXPECT_NEAR(sum / kCount, 0.0, 0.02);
  EXPECT_NEAR(squares / kCount, 1.0, 0.02);
  EXPECT_NEAR(uniforms / kCount, 0.5, 0.01);
}

}  // namespace
}  // namespace switchyard
