#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/buffer.h"
#include "base/cpu.h"
#include "gemm/gemm_testing.h"
#include "gemm/kernel.h"
#include "gemm/panel.h"
#include "gemm/prepack.h"

namespace switchyard::gemm {
namespace {

std::int64_t tile_rows_of(const Kernel& kernel, std::int64_t rows) {
  return kernel.format == PanelFormat::tiles ? even_tile_rows(rows) : kTileRows;
}

struct How {
  std::int64_t stripes_at_once = 1;
  bool in_order = false;
};

// acc of each of two stripes of 40 columns, [stripes][rows, 32], from parts of the depth.
std::vector<float> products(const Kernel& kernel, Matrix& x, const Matrix& w, std::int64_t rows,
                            std::int64_t depth_part, How how = {}) {
  const std::int64_t at_once = how.stripes_at_once;
  Context context({.threads = 1, .isa = {}});
  const PackedWeights packed(context, w.stacked(1));
  PanelShape shape(kernel, x.cols);
  shape.tile_rows = tile_rows_of(kernel, rows);
  Buffer panel(shape.bytes(rows));
  fill_panel(shape, x.view(), nullptr, rows, 0, panel.data());
  const std::int64_t stripe_acc = round_up(rows, 16) * 32;
  Buffer memory(packed.stripes() * stripe_acc * 4);
  auto* acc = memory.elements<float>(1);
  const std::int64_t depth_bytes = packed.stripe_bytes() / shape.depth;
  const bool is_split = kernel.format == PanelFormat::split_tiles;  // a panel for each part
  if (kernel.begin) kernel.begin(is_split ? rows : shape.tile_rows);
  for (std::int64_t s = 0; s < packed.stripes(); s += at_once) {
    for (std::int64_t k = 0; k < shape.depth; k += depth_part) {
      const std::int64_t depth = std::min(depth_part, shape.depth - k);
      const std::byte* ahead = s + 1 < packed.stripes() ? packed.stripe(0, s + 1) : nullptr;
      const PanelShape part(kernel, is_split ? depth : shape.depth);
      if (is_split) fill_panel(part, x.view(), nullptr, rows, k, panel.data());
      kernel.run({panel.data() + (is_split ? 0 : shape.offset(0, k)), part.stride(),
                  packed.stripe(0, s) + k * depth_bytes, depth, acc + s * stripe_acc, rows, k > 0,
                  ahead, ahead != nullptr ? depth * depth_bytes : 0, shape.tile_rows, at_once,
                  packed.stripe_bytes(), stripe_acc, how.in_order});
    }
  }
  if (kernel.end) kernel.end();
  std::vector<float> sums;
  for (std::int64_t s = 0; s < packed.stripes(); ++s) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t at = r / shape.tile_rows * kTileRows + r % shape.tile_rows;
      const float* row = acc + s * stripe_acc + at * 32;
      sums.insert(sums.end(), row, row + 32);
    }
  }
  return sums;
}

// Every kernel the machine runs against a plain double sum; parts of the depth add up.
void expect_plain_sums(const Kernel& kernel, std::int64_t depth, std::int64_t rows,
                       std::int64_t depth_part, bool in_order) {
  Matrix x(kernel.panel, rows, depth, 1), w(kernel.weights, 40, depth, 2);
  const std::vector<float> acc = products(kernel, x, w, rows, depth_part, {1, in_order});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < 40; ++j) {
      double sum = 0, magnitude = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += x.at(r, k) * w.at(j, k);
        magnitude += std::abs(x.at(r, k) * w.at(j, k));
      }
      const auto at = static_cast<std::size_t>((j / 32 * rows + r) * 32 + j % 32);
      ASSERT_NEAR(acc[at], sum, 1e-30 + 4 * 0x1p-23 * magnitude)
          << name_of(kernel) << " depth " << depth << " rows " << rows << " at " << r << ", " << j
          << " in order " << in_order;
    }
  }
}

TEST(GemmKernel, EveryVariantMatchesThePlainSum) {
  for (const Kernel& kernel : kernels()) {
    if (!isa_is_available(kernel.isa)) continue;
    for (const std::int64_t depth : {1, 32, 50, 256}) {
      for (const std::int64_t rows :
           {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 20, 21, 25, 32, 33, 70}) {
        expect_plain_sums(kernel, depth, rows, 64, false);
        expect_plain_sums(kernel, depth, rows, 64, true);
      }
    }
    for (const std::int64_t depth : {256, 352, 1120}) {  // 8, 11 and 35 steps of tiles
      for (const std::int64_t rows : {1, 5, 17, 70}) {
        expect_plain_sums(kernel, depth, rows, depth, false);
        expect_plain_sums(kernel, depth, rows, depth, true);
      }
    }
  }
}

void expect_bits_of_many_rows(const Kernel& kernel, std::int64_t depth, bool in_order) {
  const Matrix w(kernel.weights, 40, depth, 2);
  Matrix x(kernel.panel, 90, depth, 1);
  const How how{1, in_order};
  const std::vector<float> many = products(kernel, x, w, 90, depth, how);
  for (std::int64_t rows = 1; rows < 90; ++rows) {
    if (kernel.format == PanelFormat::rows && rows > 26 && rows % 20 != 0) continue;
    const std::vector<float> few = products(kernel, x, w, rows, depth, how);
    for (std::int64_t i = 0; i < rows * 32; ++i) {
      const auto at = static_cast<std::size_t>(i);
      ASSERT_EQ(few[at], many[at])
          << name_of(kernel) << " rows " << rows << " at " << i << " in order " << in_order;
    }
  }
}

TEST(GemmKernel, OtherRowsNeverChangeBits) {
  for (const Kernel& kernel : kernels()) {
    if (!isa_is_available(kernel.isa)) continue;
    for (const std::int64_t depth : {352, 512, 1120}) {
      expect_bits_of_many_rows(kernel, depth, false);
      if (kernel.format == PanelFormat::rows) expect_bits_of_many_rows(kernel, depth, true);
    }
  }
}

// As many as a task may have: among them those of every height of tiles and number of them.
TEST(GemmKernel, TilesTakeEveryNumberOfRows) {
  constexpr std::int64_t kMost = 640, kDepth = 64;
  for (const Kernel& kernel : kernels()) {
    if (kernel.format == PanelFormat::rows || !isa_is_available(kernel.isa)) continue;
    const Matrix w(kernel.weights, 40, kDepth, 2);
    Matrix x(kernel.panel, kMost, kDepth, 1);
    const std::vector<float> many = products(kernel, x, w, kMost, kDepth);
    for (std::int64_t rows = 1; rows < kMost; ++rows) {
      const std::vector<float> few = products(kernel, x, w, rows, kDepth);
      ASSERT_TRUE(std::equal(few.begin(), few.begin() + rows * 32, many.begin()))
          << name_of(kernel) << " rows " << rows;
    }
  }
}

TEST(GemmKernel, TwoStripesAtOnceNeverChangeBits) {
  const Kernel& kernel = find_kernel(Isa::amx_bf16, DType::bf16, DType::bf16);
  if (kernel.isa != Isa::amx_bf16 || !isa_is_available(kernel.isa)) GTEST_SKIP() << "no AMX";
  // 1, 3, 11, 28 and 35 steps, rounds of 4, 6 and 8 streams, whole and in parts.
  for (const std::int64_t depth : {32, 96, 352, 896, 1120, 512, 768, 1024, 1536}) {
    const Matrix w(kernel.weights, 40, depth, 2);
    Matrix x(kernel.panel, 16, depth, 1);
    for (const std::int64_t rows : {1, 5, 16}) {
      for (const std::int64_t part : {depth, std::int64_t{512}}) {
        ASSERT_EQ(products(kernel, x, w, rows, part, {2}), products(kernel, x, w, rows, part))
            << "depth " << depth << " rows " << rows;
      }
    }
  }
}

TEST(GemmKernel, ProductsOfBf16PairsRunWhereTheyPay) {
  if (!isa_is_available(Isa::avx512_bf16)) GTEST_SKIP() << "no AVX-512 BF16";
  const Kernel& found = find_kernel(Isa::avx512_bf16, DType::bf16, DType::bf16);
  EXPECT_EQ(found.isa, cpu_features().fast_dot_bf16 ? Isa::avx512_bf16 : Isa::avx512);
}

TEST(GemmKernel, SplitTilesAreForF32Alone) {
  if (!isa_is_available(Isa::amx_bf16)) GTEST_SKIP() << "no AMX";
  EXPECT_EQ(name_of(find_kernel(Isa::amx_bf16, DType::f32, DType::f32)), "amx_bf16 f32 x f32");
  EXPECT_EQ(find_kernel(Isa::amx_bf16, DType::f32, DType::bf16).isa, Isa::avx512);
  EXPECT_EQ(find_kernel(Isa::avx512, DType::f32, DType::f32).isa, Isa::avx512);
}

// ||sums - exact|| / ||sums of magnitudes||
double error_of_sums(const Kernel& kernel, Matrix& x, const Matrix& w) {
  const std::vector<float> acc = products(kernel, x, w, x.rows, 320);
  double error = 0, norm = 0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t j = 0; j < w.rows; ++j) {
      double sum = 0, magnitude = 0;
      for (std::int64_t k = 0; k < x.cols; ++k) {
        sum += x.at(r, k) * w.at(j, k);
        magnitude += std::abs(x.at(r, k) * w.at(j, k));
      }
      const auto at = static_cast<std::size_t>((j / 32 * x.rows + r) * 32 + j % 32);
      const double off = acc[at] - sum;
      error += off * off;
      norm += magnitude * magnitude;
    }
  }
  return std::sqrt(error / norm);
}

struct Operands {
  const char* name;
  Matrix x, w;
};

std::vector<Operands> hard_operands() {
  constexpr std::int64_t kRows = 40, kDepth = 700;
  const Operands plain{"uniform", Matrix(DType::f32, kRows, kDepth, 1),
                       Matrix(DType::f32, 40, kDepth, 2)};
  std::vector<Operands> all = {plain, plain, plain, plain, plain};
  const Philox random(17, 9);
  const auto change = [](Matrix& m, auto&& value) {
    for (std::int64_t i = 0; i < m.rows * m.cols; ++i) {
      m.set(i, static_cast<float>(value(i / m.cols, i % m.cols, m.at(i / m.cols, i % m.cols))));
    }
  };
  const auto power = [&](std::int64_t i, double range) {
    return std::pow(10.0, range * (2 * random.uniform(static_cast<std::uint64_t>(i)) - 1));
  };
  all[1].name = "columns between 1e-20 and 1e20";
  change(all[1].x, [&](auto, auto k, double v) { return v * power(k, 20); });
  change(all[1].w, [&](auto, auto k, double v) { return v / power(k, 20); });
  all[2].name = "rows between 1e-15 and 1e15";
  change(all[2].x, [&](auto r, auto, double v) { return v * power(r, 15); });
  all[3].name = "of one sign";
  change(all[3].x, [](auto, auto, double v) { return std::abs(v); });
  change(all[3].w, [](auto, auto, double v) { return std::abs(v); });
  all[4].name = "cancelling";
  change(all[4].w, [&](auto j, auto k, double v) {
    return k % 2 == 0 ? v : -all[4].w.at(j, k - 1) * (1 + 1e-4 * v);
  });
  change(all[4].x,
         [&](auto r, auto k, double v) { return k % 2 == 0 ? v : all[4].x.at(r, k - 1); });
  return all;
}

// Three parts of bf16 carry what f32 does; two would be off by 2^-17.
TEST(GemmKernel, SplitTilesHaveTheErrorOfF32) {
  if (!isa_is_available(Isa::amx_bf16)) GTEST_SKIP() << "no AMX";
  const Kernel& split = find_kernel(Isa::amx_bf16, DType::f32, DType::f32);
  const Kernel& portable = find_kernel(Isa::portable, DType::f32, DType::f32);
  for (Operands& operands : hard_operands()) {
    const double error = error_of_sums(split, operands.x, operands.w);
    EXPECT_LE(error, 2 * error_of_sums(portable, operands.x, operands.w)) << operands.name;
    EXPECT_LE(error, 0x1p-22) << operands.name;
  }
}

TEST(GemmKernel, SplitTilesAtTheEndsOfTheRange) {
  if (!isa_is_available(Isa::amx_bf16)) GTEST_SKIP() << "no AMX";
  const Kernel& split = find_kernel(Isa::amx_bf16, DType::f32, DType::f32);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float kBound = std::nextafter(0x1.ffp127f, 0.0f);  // the next rounds to an infinite bf16
  const float kMax = std::numeric_limits<float>::max();
  const float kMin = std::numeric_limits<float>::min();
  const struct {
    float x, product;
  } cases[] = {{kInfinity, NAN}, {-kInfinity, NAN},  {NAN, NAN},      {kMax, NAN},
               {kBound, kBound}, {-kBound, -kBound}, {-0.0f, 0},      {kMin / 2, 0},
               {kMin, kMin},     {1e-20f, 1e-20f},   {1e-30f, 1e-30f}};
  for (const auto& c : cases) {
    for (const bool is_weight : {false, true}) {
      Matrix x(DType::f32, 3, 32, 1, 0.0f), w(DType::f32, 40, 32, 2, 0.0f);
      x.set(32 + 5, is_weight ? 1 : c.x);
      w.set(2 * 32 + 5, is_weight ? c.x : 1);
      const float product = products(split, x, w, 3, 32)[32 + 2];
      if (std::isnan(c.product)) {
        EXPECT_TRUE(std::isnan(product)) << c.x << " gives " << product;
      } else {
        EXPECT_NEAR(product, c.product, 0x1p-23f * std::abs(c.product) + kMin) << c.x;
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::gemm
