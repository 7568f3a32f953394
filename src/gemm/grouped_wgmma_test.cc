// The kernel of sm_90a as one product, in the emulator or on a device that has wgmma.

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "base/philox.h"
#include "cuda/device_testing.h"
#include "cuda/gpu.h"
#include "gemm/gpu_ffn.h"
#include "gemm/gpu_kernels.h"
#include "gemm/mma_layout.h"

namespace switchyard::gemm {
namespace {

// ---- Descriptors.

TEST(MatrixDescriptor, FindsWhatTheSwizzlePlaced) {
  for (const std::uint32_t tile : {0u, 1024u, 49152u, 4 * 49152u}) {
    for (int slice = 0; slice < 4; ++slice) {
      const std::uint64_t descriptor = matrix_descriptor(tile) + slice * kDescriptorSlice;
      for (int row = 0; row < 256; ++row) {
        for (int k = 0; k < 16; ++k) {
          const int depth = slice * 16 + k;
          EXPECT_EQ(described_element(descriptor, row, k),
                    tile + swizzled(row, depth / 8) + static_cast<std::uint32_t>(depth % 8 * 2));
        }
      }
    }
  }
}

TEST(MatrixDescriptor, HasTheFieldsOfThePtxIsa) {
  const std::uint64_t d = matrix_descriptor(0x2c400);
  EXPECT_EQ(d & 0x3fff, 0x2c40u);    // address / 16
  EXPECT_EQ(d >> 32 & 0x3fff, 64u);  // 8 rows of 128 bytes, / 16
  EXPECT_EQ(d >> 49 & 7, 0u);        // base offset: the tile is aligned
  EXPECT_EQ(d >> 62, 1u);            // 128-byte swizzle
}

// ---- The kernel.

class GroupedWgmma : public cuda::DeviceTest {
 protected:
  void SetUp() override {
    cuda::DeviceTest::SetUp();
    if (context_ == nullptr || cuda::is_emulated()) return;
    if (cuda::gpu_of(*context_).info().major != 9) GTEST_SKIP() << "wgmma is of sm_90a only";
  }

  template <class T>
  void check(const std::vector<std::int64_t>& counts, std::int64_t columns, std::int64_t depth,
             bool gather) {
    cuda::Gpu& gpu = cuda::gpu_of(*context_);
    cuda::DeviceScope scope(gpu);
    const auto experts = std::ssize(counts);
    const auto w = random_elements<T>(experts * columns * depth, 1);
    std::vector<std::int64_t> begin(1, 0);
    for (const std::int64_t n : counts) begin.push_back(begin.back() + n);
    const std::int64_t rows = begin.back();
    const auto x = random_elements<T>(rows * depth, 2);
    std::vector<std::int32_t> tokens;
    for (std::int64_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<std::int32_t>(gather ? r * 7 % rows : r));
    }
    const GpuWeights weights(*context_, {}, matrices(w.data(), experts, columns, depth));

    GroupedArgs args;
    args.in = reinterpret_cast<const std::byte*>(copied(gpu, scope, x));
    args.in_row_bytes = depth * 2;
    args.token_of_row = gather ? copied(gpu, scope, tokens) : nullptr;
    args.expert_begin = copied(gpu, scope, begin);
    args.expert_rows = copied(gpu, scope, counts);
    args.weights = weights.data();
    args.packed_columns = weights.packed_columns();
    args.depth = weights.depth();
    T* out = scope.take<T>(rows * columns);
    args.out = reinterpret_cast<std::byte*>(out);
    args.out_row_bytes = columns * 2;
    args.columns = columns;
    args.out_is_aligned = columns % 8 == 0;
    GpuConfig config;
    config.tile = GpuTile::wide;
    args.grid = {static_cast<int>(experts), 128,
                 static_cast<int>((args.packed_columns + 255) / 256), 2};
    config.ctas = 2;  // each does several tiles
    launch_grouped_wgmma(gpu, config, DTypeOf<T>::value, args);
    std::vector<T> got(static_cast<std::size_t>(rows * columns));
    gpu.copy_to_host(got.data(), out, std::ssize(got) * 2);

    double error = 0, norm = 0;
    for (std::int64_t e = 0; e < experts; ++e) {
      for (std::int64_t r = begin[static_cast<std::size_t>(e)];
           r < begin[static_cast<std::size_t>(e) + 1]; ++r) {
        const T* row = x.data() + tokens[static_cast<std::size_t>(r)] * depth;
        for (std::int64_t c = 0; c < columns; ++c) {
          const T* column = w.data() + (e * columns + c) * depth;
          double want = 0;
          for (std::int64_t k = 0; k < depth; ++k) {
            want += static_cast<double>(to_float(row[k])) * to_float(column[k]);
          }
          const double is = to_float(got[static_cast<std::size_t>(r * columns + c)]);
          error += (is - want) * (is - want);
          norm += want * want;
        }
      }
    }
    EXPECT_LE(std::sqrt(error), epsilon_of(DTypeOf<T>::value) / 2 * std::sqrt(norm));
  }

 private:
  template <class T>
  static std::vector<T> random_elements(std::int64_t count, std::uint64_t stream) {
    const Philox random(17, stream);
    std::vector<T> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = from_float<T>(static_cast<float>(random.word(i) >> 8) * 0x1p-23f - 1.0f);
    }
    return values;
  }

  template <class V>
  static V* copied(cuda::Gpu& gpu, cuda::DeviceScope& scope, const std::vector<V>& values) {
    V* device = scope.take<V>(std::ssize(values));
    gpu.copy_to_device(device, values.data(),
                       std::ssize(values) * static_cast<std::int64_t>(sizeof(V)));
    return device;
  }
};

TEST_F(GroupedWgmma, ManyStepsOfFewTiles) { check<bf16>({128}, 256, 64 * 11, false); }
TEST_F(GroupedWgmma, ManyTilesOfOneStep) { check<bf16>({130, 0, 5, 64}, 320, 64, false); }
TEST_F(GroupedWgmma, GathersAndFitsNothing) { check<bf16>({3, 0, 150}, 70, 104, true); }
TEST_F(GroupedWgmma, F16) { check<f16>({20}, 256, 136, true); }
TEST_F(GroupedWgmma, NoRows) { check<bf16>({0, 0}, 64, 64, false); }

}  // namespace
}  // namespace switchyard::gemm
