// Device code on matrices of more than 2^31 elements: rows that lie gigabytes apart in memory that
// the system backs only where it is touched, and the same rows side by side, must give the same
// bits. Only in the emulator, whose device memory is the process's.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "cuda/device_testing.h"
#include "gemm/gpu_kernels.h"
#include "gemm/int4_layout.h"
#include "gemm/mma_layout.h"
#include "layer/device_rows.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

constexpr std::int64_t kFar = (std::int64_t{1} << 31) + 64;  // elements from one row to the next

/// Zeros, `bytes` of them; nothing where the system would not have it.
class SparseMemory {
 public:
  explicit SparseMemory(std::int64_t bytes)
      : bytes_(static_cast<std::size_t>(bytes)),
        data_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~SparseMemory() {
    if (exists()) munmap(data_, bytes_);
  }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;

  bool exists() const { return data_ != MAP_FAILED; }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

/// A matrix whose rows are `stride` elements apart.
struct Rows {
  Rows(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride)
      : memory(((rows - 1) * stride + cols) * static_cast<std::int64_t>(size_of(dtype))),
        view{memory.data(), dtype, rows, cols, stride, Device::cuda} {}

  void fill(std::uint64_t seed) {
    const Philox random(seed, 5);
    for (std::int64_t i = 0; i < view.rows * view.cols; ++i) {
      const float value = 2 * random.uniform(static_cast<std::uint64_t>(i)) - 1;
      std::byte* row = view.row(i / view.cols);
      if (view.dtype == DType::f32) {
        reinterpret_cast<float*>(row)[i % view.cols] = value;
      } else {
        reinterpret_cast<bf16*>(row)[i % view.cols] = from_float<bf16>(value);
      }
    }
  }

  SparseMemory memory;
  MatrixView view;
};

void expect_same(const MatrixView& far, const MatrixView& near) {
  const std::size_t bytes = static_cast<std::size_t>(near.cols) * size_of(near.dtype);
  for (std::int64_t r = 0; r < near.rows; ++r) {
    EXPECT_EQ(std::memcmp(far.row(r), near.row(r), bytes), 0) << "row " << r;
  }
}

class HugeOnDevice : public cuda::DeviceTest {
 protected:
  void SetUp() override {
    if (!cuda::is_emulated()) GTEST_SKIP() << "needs memory that only the emulator has";
    if (!SparseMemory(3 * kFar * 4).exists()) GTEST_SKIP() << "no address space";
  }
  cuda::Gpu& gpu() { return cuda::gpu_of(*context_); }

  const StrategyRegistry registry_ = StrategyRegistry::builtin();
};

TEST_F(HugeOnDevice, LogitsAndNoise) {
  for (const char* const strategy : {"sigmoid_bias", "random", "noisy_topk"}) {
    Routing routing[2];
    for (const std::int64_t stride : {kFar, std::int64_t{40}}) {
      Rows logits(DType::f32, 3, 40, stride), noise(DType::f32, 3, 40, stride);
      logits.fill(1);
      noise.fill(2);
      DeviceRouting on_device;
      route(*context_, registry_.find(strategy),
            {.logits = logits.view, .bias = {}, .token_ids = {}, .noise_logits = noise.view},
            {.top_k = 4}, on_device);
      copy(*context_, on_device, routing[stride == kFar]);
    }
    EXPECT_EQ(routing[0].expert, routing[1].expert);
    EXPECT_EQ(routing[0].weight, routing[1].weight);
  }
}

TEST_F(HugeOnDevice, PackAndCombine) {
  const Routing routing{.num_tokens = 3,
                        .num_experts = 2,
                        .token_begin = {0, 2, 3, 5},
                        .expert = {0, 1, 1, 1, 0},
                        .weight = {0.5f, 0.25f, 1, 0.75f, 0.125f}};
  DeviceRouting on_device;
  DevicePlan plan;
  copy(*context_, routing, on_device);
  make_plan(*context_, on_device, {}, plan);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t cols : {64, 7}) {
      Rows x(dtype, 3, cols, kFar), near_x(dtype, 3, cols, cols);
      Rows rows(dtype, 5, cols, kFar), near_rows(dtype, 5, cols, cols);
      Rows out(dtype, 3, cols, kFar), near_out(dtype, 3, cols, cols);
      x.fill(3);
      near_x.fill(3);
      pack(*context_, plan, x.view, rows.view);
      pack(*context_, plan, near_x.view, near_rows.view);
      expect_same(rows.view, near_rows.view);
      combine(*context_, plan, rows.view, out.view);
      combine(*context_, plan, near_rows.view, near_out.view);
      expect_same(out.view, near_out.view);
    }
  }
}

TEST_F(HugeOnDevice, RowsOfARouter) {
  Rows x(DType::bf16, 3, 50, kFar), near(DType::bf16, 3, 50, 50);
  x.fill(4);
  near.fill(4);
  Rows out(DType::f32, 3, 50, 50), near_out(DType::f32, 3, 50, 50);
  widen_rows(gpu(), x.view, reinterpret_cast<float*>(out.view.data));
  widen_rows(gpu(), near.view, reinterpret_cast<float*>(near_out.view.data));
  expect_same(out.view, near_out.view);
}

/// A product of 3 experts with one row each, gathered, whose first tile of columns alone is made:
/// matrices of weights, rows and outputs lie far apart, or as near as they may.
class HugeProduct : public HugeOnDevice {
 protected:
  static constexpr std::int64_t kDepth = 64, kExperts = 3;

  using Launch = void (*)(cuda::Gpu&, const gemm::GpuConfig&, DType, const gemm::GroupedArgs&);

  /// `matrix` fills the first columns of an expert's weights.
  void expect_same_products(const gemm::GpuConfig& config, Launch launch, std::int64_t column_bytes,
                            std::int64_t tile_bytes, void (*matrix)(std::byte*, std::int64_t)) {
    const std::int64_t columns = config.shape.columns;
    Rows out(DType::bf16, 3, columns, kFar), near_out(DType::bf16, 3, columns, columns);
    for (const bool far : {true, false}) {
      const std::int64_t packed = far ? std::int64_t{1} << 26 : columns;  // of depth 64
      Rows x(DType::bf16, 3, kDepth, far ? kFar : kDepth);
      x.fill(5);
      const std::int64_t matrix_bytes = packed * column_bytes;
      const SparseMemory weights(kExperts * matrix_bytes);
      ASSERT_TRUE(weights.exists());
      for (std::int64_t e = 0; e < kExperts; ++e) {
        for (std::int64_t i = 0; i < tile_bytes; i += 64) {
          matrix(weights.data() + e * matrix_bytes + i, e * tile_bytes + i);
        }
      }
      const std::int64_t begin[] = {0, 1, 2, 3}, rows[] = {1, 1, 1};
      const std::int32_t token[] = {2, 0, 1};
      gemm::GroupedArgs args;
      args.in = x.view.data;
      args.in_row_bytes = x.view.row_stride * 2;
      args.token_of_row = token;
      args.expert_begin = begin;
      args.expert_rows = rows;
      args.weights = weights.data();
      args.packed_columns = packed;
      args.depth = kDepth;
      args.out = far ? out.view.data : near_out.view.data;
      args.out_row_bytes = (far ? kFar : columns) * 2;
      args.columns = columns;
      args.out_is_aligned = true;
      args.grid = config.grid;
      launch(gpu(), config, DType::bf16, args);
    }
    expect_same(out.view, near_out.view);
  }

  static gemm::GpuConfig config_of(gemm::GpuTile tile, bool integer_weights) {
    gemm::GpuConfig config;
    config.tile = tile;
    config.shape = gemm::shape_of(tile, integer_weights);
    config.grid = {.num_experts = kExperts,
                   .tile_rows = config.shape.rows,
                   .column_tiles = 1,
                   .band_tiles = 1};
    config.ctas = 2;
    return config;
  }
};

/// 32 elements, from -1 to 1.
void random_columns(std::byte* at, std::int64_t i) {
  const Philox random(6, 6);
  for (std::int64_t j = 0; j < 32; ++j) {
    reinterpret_cast<bf16*>(at)[j] =
        from_float<bf16>(2 * random.uniform(static_cast<std::uint64_t>(i + j)) - 1);
  }
}

/// Codes, and scales that are finite whatever their bits.
void random_records(std::byte* at, std::int64_t i) {
  const Philox random(7, 7);
  for (std::int64_t j = 0; j < 64; ++j) {
    at[j] = static_cast<std::byte>(random.word(static_cast<std::uint64_t>(i + j)) & 0x3b);
  }
}

TEST_F(HugeProduct, WeightsOf16Bits) {
  for (const gemm::GpuTile tile : {gemm::GpuTile::few, gemm::GpuTile::some, gemm::GpuTile::many}) {
    const gemm::GpuConfig config = config_of(tile, false);
    expect_same_products(config, gemm::launch_grouped_mma, kDepth * 2,
                         config.shape.columns * kDepth * 2, random_columns);
  }
  const gemm::GpuConfig wide = config_of(gemm::GpuTile::wide, false);
  expect_same_products(wide, gemm::launch_grouped_wgmma, kDepth * 2,
                       wide.shape.columns * kDepth * 2, random_columns);
}

TEST_F(HugeProduct, WeightsOfInt4) {
  for (const gemm::GpuTile tile : {gemm::GpuTile::few, gemm::GpuTile::some, gemm::GpuTile::many}) {
    const gemm::GpuConfig config = config_of(tile, true);
    const std::int64_t column_bytes = gemm::record_bytes(false) / gemm::kRecordColumns;
    expect_same_products(config, gemm::launch_grouped_int4, column_bytes,
                         config.shape.columns * column_bytes, random_records);
  }
}

// What needs no memory: the schedule and the order of packed columns.
TEST(HugeIndices, TilesAndPackedColumns) {
  const gemm::TileGrid grid{
      .num_experts = 2, .tile_rows = 16, .column_tiles = 1 << 10, .band_tiles = 64};
  const std::int64_t rows[] = {std::int64_t{1} << 30, (std::int64_t{1} << 30) - 5};
  std::int32_t begin[3], partial[1];
  gemm::make_tiles_begin(grid, rows, 0, 1, begin, partial, [] {});
  const std::int64_t tiles = gemm::num_tiles(grid, begin);
  EXPECT_EQ(tiles, std::int64_t{1} << 37);
  const gemm::Tile last = gemm::tile_at(grid, begin, rows, tiles - 1);
  EXPECT_EQ(last.expert, 1);
  EXPECT_EQ(last.column_tile, grid.column_tiles - 1);
  EXPECT_EQ(last.row, (std::int64_t{1} << 30) - 16);
  EXPECT_EQ(last.rows, 11);

  const std::int64_t far = std::int64_t{1} << 33;
  EXPECT_EQ(gemm::packed_columns(far, true), 2 * far);
  for (const bool gated : {false, true}) {
    for (std::int64_t i = 0; i < gemm::kPackedBlock; ++i) {
      const gemm::PackedColumn here = gemm::packed_column(i, gated);
      const gemm::PackedColumn there = gemm::packed_column(2 * far + i, gated);
      EXPECT_EQ(there.column - here.column, gated ? far : 2 * far);
      EXPECT_EQ(there.is_gate, here.is_gate);
    }
  }
}

}  // namespace
}  // namespace switchyard
