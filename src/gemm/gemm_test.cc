#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/buffer.h"
#include "base/cpu.h"
#include "base/philox.h"
#include "gemm/dense.h"
#include "gemm/kernel.h"
#include "gemm/panel.h"
#include "gemm/prepack.h"
#include "switchyard/error.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {
namespace {

// A matrix with its own memory, filled with uniforms of variance scale^2.
struct Matrix {
  DType dtype;
  std::int64_t rows, cols;
  std::vector<std::byte> memory;

  Matrix(DType type, std::int64_t num_rows, std::int64_t num_cols, std::uint64_t stream,
         float scale = 1.0f)
      : dtype(type), rows(num_rows), cols(num_cols), memory(rows * cols * size_of(type)) {
    const Philox random(17, stream);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      set(i, scale * 1.7320508f * (2 * random.uniform(i) - 1));
    }
  }
  void set(std::int64_t i, float x) {
    switch (dtype) {
      case DType::f32: reinterpret_cast<float*>(memory.data())[i] = x; break;
      case DType::bf16: reinterpret_cast<bf16*>(memory.data())[i] = from_float<bf16>(x); break;
      case DType::f16: reinterpret_cast<f16*>(memory.data())[i] = from_float<f16>(x); break;
    }
  }
  double at(std::int64_t r, std::int64_t c) const {
    const std::int64_t i = r * cols + c;
    switch (dtype) {
      case DType::f32: return reinterpret_cast<const float*>(memory.data())[i];
      case DType::bf16: return to_float(reinterpret_cast<const bf16*>(memory.data())[i]);
      case DType::f16: return to_float(reinterpret_cast<const f16*>(memory.data())[i]);
    }
    return 0;
  }
  MatrixView view() { return {memory.data(), dtype, rows, cols, cols}; }
  ConstMatricesView stacked(std::int64_t count) const {
    return {memory.data(), dtype, count, rows / count, cols, cols, rows / count * cols};
  }
};

std::int64_t tile_rows_of(const Kernel& kernel, std::int64_t rows) {
  return kernel.format == PanelFormat::tiles ? even_tile_rows(rows) : kTileRows;
}

// acc of each of two stripes of 40 columns, [stripes][rows, 32], from parts of the depth.
std::vector<float> products(const Kernel& kernel, Matrix& x, const Matrix& w, std::int64_t rows,
                            std::int64_t depth_part, std::int64_t at_once = 1) {
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
                  packed.stripe_bytes(), stripe_acc});
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
                       std::int64_t depth_part) {
  Matrix x(kernel.panel, rows, depth, 1), w(kernel.weights, 40, depth, 2);
  const std::vector<float> acc = products(kernel, x, w, rows, depth_part);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < 40; ++j) {
      double sum = 0, magnitude = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += x.at(r, k) * w.at(j, k);
        magnitude += std::abs(x.at(r, k) * w.at(j, k));
      }
      const auto at = static_cast<std::size_t>((j / 32 * rows + r) * 32 + j % 32);
      ASSERT_NEAR(acc[at], sum, 1e-30 + 4 * 0x1p-23 * magnitude)
          << name_of(kernel) << " depth " << depth << " rows " << rows << " at " << r << ", " << j;
    }
  }
}

TEST(GemmKernel, EveryVariantMatchesThePlainSum) {
  for (const Kernel& kernel : kernels()) {
    if (!isa_is_available(kernel.isa)) continue;
    for (const std::int64_t depth : {1, 32, 50, 256}) {
      for (const std::int64_t rows :
           {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 20, 21, 25, 32, 33, 70}) {
        expect_plain_sums(kernel, depth, rows, 64);
      }
    }
    for (const std::int64_t depth : {256, 352, 1120}) {  // 8, 11 and 35 steps of tiles
      for (const std::int64_t rows : {1, 17, 70}) expect_plain_sums(kernel, depth, rows, depth);
    }
  }
}

TEST(GemmKernel, OtherRowsNeverChangeBits) {
  for (const Kernel& kernel : kernels()) {
    if (!isa_is_available(kernel.isa)) continue;
    for (const std::int64_t depth : {352, 512, 1120}) {
      const Matrix w(kernel.weights, 40, depth, 2);
      Matrix x(kernel.panel, 90, depth, 1);
      const std::vector<float> many = products(kernel, x, w, 90, depth);
      for (std::int64_t rows = 1; rows < 90; ++rows) {
        if (kernel.format == PanelFormat::rows && rows > 21 && rows % 20 != 0) continue;
        const std::vector<float> few = products(kernel, x, w, rows, depth);
        for (std::int64_t i = 0; i < rows * 32; ++i) {
          const auto at = static_cast<std::size_t>(i);
          ASSERT_EQ(few[at], many[at]) << name_of(kernel) << " rows " << rows << " at " << i;
        }
      }
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
        ASSERT_EQ(products(kernel, x, w, rows, part, 2), products(kernel, x, w, rows, part))
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

double act_of(Activation act, double x) {
  switch (act) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu: return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::relu: return x > 0 ? x : 0;
  }
  return 0;
}

TEST(Epilogue, ActivationsMatchTheFormulaEverywhere) {
  constexpr std::int64_t kRows = 1600;
  std::vector<float> acc(kRows * 32), out(kRows * 32);
  for (std::int64_t i = 0; i < kRows * 32; ++i) acc[i] = -100 + 200.0f * i / (kRows * 32);
  for (const Activation act : {Activation::silu, Activation::gelu, Activation::relu}) {
    const EpilogueFn run = find_epilogue(Isa::portable, EpilogueKind::plain, act, DType::f32);
    run({acc.data(), kRows, 32, reinterpret_cast<std::byte*>(out.data()), 128, 16 * 128});
    for (std::int64_t i = 0; i < kRows * 32; ++i) {
      const double want = act_of(act, acc[i]);
      ASSERT_NEAR(out[i], want, 4e-7 * std::max(1.0, std::abs(want))) << name_of(act) << acc[i];
    }
  }
}

std::vector<EpilogueFn> epilogue_variants(EpilogueKind kind, Activation act, DType dtype) {
  std::vector<EpilogueFn> found;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    if (isa_is_available(isa)) found.push_back(find_epilogue(isa, kind, act, dtype));
  }
  return found;
}

struct EpilogueCase {
  EpilogueKind kind;
  Activation act;
  std::int64_t columns, stripes;
  bool stream;
};

// Every variant is within the rounding of f32 of the portable one, and what it rounds to a narrower
// type is its own f32 result.
void expect_variants_agree(const EpilogueCase& c, const std::vector<float>& acc,
                           std::int64_t rows) {
  constexpr std::int64_t kWidth = 64;
  EpilogueArgs args{.acc = acc.data(),
                    .rows = rows,
                    .columns = c.columns,
                    .out = nullptr,
                    .row_bytes = 0,
                    .tile_bytes = 0,
                    .stripes = c.stripes,
                    .stripe_acc = rows * 32,
                    .stream = c.stream};
  const auto results = [&](EpilogueFn run, auto element) {
    Buffer out(rows * kWidth * 4);
    auto* data = out.elements<decltype(element)>(rows * kWidth);
    std::fill(data, data + rows * kWidth, from_float<decltype(element)>(77));
    args.out = out.data();
    args.row_bytes = kWidth * static_cast<std::int64_t>(sizeof element);
    args.tile_bytes = 16 * args.row_bytes;
    run(args);
    return std::vector<decltype(element)>(data, data + rows * kWidth);
  };
  const auto f32 = epilogue_variants(c.kind, c.act, DType::f32);
  const auto want = results(f32.front(), float{});
  for (std::size_t v = 0; v < f32.size(); ++v) {
    const auto wide = results(f32[v], float{});
    const auto half = results(epilogue_variants(c.kind, c.act, DType::bf16)[v], bf16{});
    const auto f16s = results(epilogue_variants(c.kind, c.act, DType::f16)[v], f16{});
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (std::isnan(want[i])) {
        ASSERT_TRUE(std::isnan(wide[i]) && std::isnan(to_float(half[i])));
        continue;
      }
      if (std::isinf(want[i])) {
        ASSERT_EQ(wide[i], want[i]);
      } else {
        ASSERT_NEAR(wide[i], want[i], 1e-6 * std::abs(want[i]) + 1e-35) << "variant " << v;
      }
      const bool normal = std::abs(wide[i]) >= std::numeric_limits<float>::min();
      if (normal || wide[i] == 0) {
        ASSERT_EQ(to_float(half[i]), to_float(from_float<bf16>(wide[i])));
      } else {
        ASSERT_LE(std::abs(to_float(half[i])), std::numeric_limits<float>::min());
      }
      ASSERT_EQ(to_float(f16s[i]), to_float(from_float<f16>(wide[i])));
    }
  }
}

TEST(Epilogue, VariantsAgree) {
  constexpr std::int64_t kRows = 21;
  std::vector<float> acc(2 * kRows * 32);
  const Philox random(3, 0);
  for (std::size_t i = 0; i < acc.size(); ++i) acc[i] = 30 * random.normal(i);
  acc[5] = NAN, acc[6] = INFINITY, acc[7] = -3e38f, acc[8] = -0.0f, acc[9] = 1e-40f;
  for (const std::int64_t stripes : {1, 2}) {
    for (const std::int64_t columns : {1l, 7l, 31l, 32 * stripes}) {
      expect_variants_agree({EpilogueKind::store, Activation::relu, columns, stripes, false}, acc,
                            kRows);
    }
    expect_variants_agree({EpilogueKind::store, Activation::relu, 32 * stripes, stripes, true}, acc,
                          kRows);
    for (const Activation act : {Activation::silu, Activation::gelu, Activation::relu}) {
      for (const EpilogueKind kind : {EpilogueKind::gated, EpilogueKind::plain}) {
        expect_variants_agree({kind, act, 32, stripes, false}, acc, kRows);
      }
    }
  }
}

// Tiles of 16 and of 7 rows.
TEST(Epilogue, TilesOfFewerRowsHoldTheSame) {
  constexpr std::int64_t kRows = 19, kWidth = 64, kStripeAcc = 3 * kTileRows * kStripeColumns;
  std::vector<float> whole(2 * kStripeAcc), sevens(2 * kStripeAcc);
  for (std::int64_t s = 0; s < 2; ++s) {
    for (std::int64_t i = 0; i < kRows * kStripeColumns; ++i) {
      const std::int64_t r = i / kStripeColumns, at = r / 7 * kTileRows + r % 7;
      whole[s * kStripeAcc + i] = static_cast<float>(i % 100 - 50 * s);
      sevens[s * kStripeAcc + at * kStripeColumns + i % kStripeColumns] = whole[s * kStripeAcc + i];
    }
  }
  const auto result = [&](EpilogueFn run, const std::vector<float>& acc, std::int64_t tile_rows) {
    std::vector<bf16> out(kRows * kWidth);
    run({.acc = acc.data(),
         .rows = kRows,
         .columns = kWidth,
         .out = reinterpret_cast<std::byte*>(out.data()),
         .row_bytes = kWidth * 2,
         .tile_bytes = tile_rows * kWidth * 2,
         .stripes = 2,
         .stripe_acc = kStripeAcc,
         .tile_rows = tile_rows});
    std::vector<float> wide;
    for (const bf16 x : out) wide.push_back(to_float(x));
    return wide;
  };
  for (const EpilogueKind kind : {EpilogueKind::store, EpilogueKind::gated, EpilogueKind::plain}) {
    for (const EpilogueFn run : epilogue_variants(kind, Activation::silu, DType::bf16)) {
      EXPECT_EQ(result(run, sevens, 7), result(run, whole, kTileRows));
    }
  }
}

// Rows [R, H] and the plan that gives expert e the next rows_of_expert[e] of them.
DispatchPlan compact_plan(const std::vector<std::int64_t>& rows_of_expert) {
  DispatchPlan plan;
  plan.num_experts = static_cast<int>(rows_of_expert.size());
  plan.expert_begin = {0};
  for (const std::int64_t rows : rows_of_expert) {
    plan.expert_rows.push_back(rows);
    plan.expert_begin.push_back(plan.expert_begin.back() + rows);
  }
  plan.num_tokens = plan.expert_begin.back();
  for (std::int64_t r = 0; r < plan.num_tokens; ++r) {
    plan.token_of_row.push_back(static_cast<std::int32_t>(r));
  }
  return plan;
}

struct Case {
  std::vector<std::int64_t> rows;
  std::int64_t hidden, ffn;
  DType weights, activations;
  bool gated;
  Activation act;
};

double relative_error(const Case& c, Isa isa, int threads) {
  Context context({.threads = threads, .isa = isa});
  const auto E = static_cast<std::int64_t>(c.rows.size());
  const float scale_h = 1 / std::sqrt(static_cast<float>(c.hidden));
  const float scale_f = 1 / std::sqrt(static_cast<float>(c.ffn));
  Matrix gate(c.weights, E * c.ffn, c.hidden, 1, scale_h),
      up(c.weights, E * c.ffn, c.hidden, 2, scale_h);
  Matrix down(c.weights, E * c.hidden, c.ffn, 3, scale_f);
  ExpertWeights weights;
  if (c.gated) weights.gate = gate.stacked(E);
  weights.up = up.stacked(E);
  weights.down = down.stacked(E);
  weights.activation = c.act;
  const auto experts = make_experts(context, "grouped", weights, c.activations);
  const DispatchPlan plan = compact_plan(c.rows);
  Matrix x(c.activations, plan.num_rows(), c.hidden, 4),
      out(c.activations, plan.num_rows(), c.hidden, 5);
  experts->forward(context, plan, x.view(), out.view());

  double error = 0, norm = 0;
  for (std::int64_t e = 0; e < E; ++e) {
    for (std::int64_t r = plan.expert_begin[e]; r < plan.expert_begin[e + 1]; ++r) {
      std::vector<double> h(c.ffn);
      for (std::int64_t f = 0; f < c.ffn; ++f) {
        double g = 0, u = 0;
        for (std::int64_t k = 0; k < c.hidden; ++k) {
          g += x.at(r, k) * gate.at(e * c.ffn + f, k);
          u += x.at(r, k) * up.at(e * c.ffn + f, k);
        }
        h[f] = c.gated ? act_of(c.act, g) * u : act_of(c.act, u);
      }
      for (std::int64_t k = 0; k < c.hidden; ++k) {
        double sum = 0;
        for (std::int64_t f = 0; f < c.ffn; ++f) sum += h[f] * down.at(e * c.hidden + k, f);
        error += (out.at(r, k) - sum) * (out.at(r, k) - sum);
        norm += sum * sum;
      }
    }
  }
  return std::sqrt(error / norm);
}

TEST(Grouped, MatchesTheOracleForEveryIsaAndDtype) {
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    for (const DType weights : {DType::f32, DType::bf16, DType::f16}) {
      for (const DType activations : {DType::f32, DType::bf16, DType::f16}) {
        for (const bool gated : {true, false}) {
          const Case c{{3, 0, 40, 1},
                       70,
                       45,
                       weights,
                       activations,
                       gated,
                       gated ? Activation::silu : Activation::gelu};
          EXPECT_LT(relative_error(c, isa, 2), epsilon_of(activations) + 30 * 0x1p-23)
              << switchyard::name_of(isa) << ' ' << switchyard::name_of(weights) << ' '
              << switchyard::name_of(activations) << gated;
        }
      }
    }
  }
}

// Deep enough that panels are cut and partial sums wait in memory, rows enough for several panels.
TEST(Grouped, CutsDepthAndRows) {
  const Case deep{{70, 1}, 8192, 40, DType::bf16, DType::bf16, true, Activation::silu};
  EXPECT_LT(relative_error(deep, default_isa(), 2), epsilon_of(DType::bf16));
  const Case tall{{700, 20}, 96, 64, DType::f32, DType::f32, true, Activation::relu};
  EXPECT_LT(relative_error(tall, default_isa(), 3), 100 * 0x1p-23);
}

TEST(Grouped, ThreadsNeverChangeBits) {
  const Case c{{33, 0, 7, 120}, 160, 96, DType::bf16, DType::bf16, true, Activation::silu};
  const double one = relative_error(c, default_isa(), 1);
  for (const int threads : {2, 3, 5}) EXPECT_EQ(one, relative_error(c, default_isa(), threads));
}

// Of an expert with several blocks of rows, whose tiles are whole, and with 1 to 100, in the fewest
// tiles evenly: through the panel between the products too.
TEST(Grouped, OtherRowsNeverChangeBits) {
  constexpr std::int64_t kRows = 700, kHidden = 96, kFfn = 48;
  Context context({.threads = 2, .isa = {}});
  const float scale = 1 / std::sqrt(static_cast<float>(kHidden));
  Matrix gate(DType::bf16, kFfn, kHidden, 1, scale), up(DType::bf16, kFfn, kHidden, 2, scale);
  Matrix down(DType::bf16, kHidden, kFfn, 3, scale), x(DType::bf16, kRows, kHidden, 4);
  for (const bool gated : {true, false}) {
    ExpertWeights weights;
    if (gated) weights.gate = gate.stacked(1);
    weights.up = up.stacked(1);
    weights.down = down.stacked(1);
    const auto experts = make_experts(context, "grouped", weights, DType::bf16);
    const auto rows_of = [&](std::int64_t rows) {
      Matrix out(DType::bf16, rows, kHidden, 5);
      MatrixView in = x.view();
      in.rows = rows;
      experts->forward(context, compact_plan({rows}), in, out.view());
      return out.memory;
    };
    const std::vector<std::byte> all = rows_of(kRows);
    for (std::int64_t rows = 1; rows <= 100; ++rows) {
      const std::vector<std::byte> some = rows_of(rows);
      ASSERT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << rows << " rows";
    }
  }
}

TEST(Grouped, NoRowsIsNoWork) {
  Context context({.threads = 2, .isa = {}});
  Matrix up(DType::f32, 2 * 8, 16, 1), down(DType::f32, 2 * 16, 8, 2);
  ExpertWeights weights;
  weights.up = up.stacked(2);
  weights.down = down.stacked(2);
  const auto experts = make_experts(context, "grouped", weights, DType::f32);
  MatrixView none{nullptr, DType::f32, 0, 16, 16};
  experts->forward(context, compact_plan({0, 0}), none, none);
}

TEST(Experts, BadShapesAreNamed) {
  Context context({.threads = 1, .isa = {}});
  Matrix up(DType::f32, 2 * 8, 16, 1), down(DType::f32, 2 * 16, 8, 2);
  ExpertWeights weights;
  weights.up = up.stacked(2);
  weights.down = up.stacked(2);
  EXPECT_THROW(make_experts(context, "grouped", weights, DType::f32), Error);
  weights.down = down.stacked(2);
  try {
    make_experts(context, "gruoped", weights, DType::f32);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean grouped?"), std::string::npos);
  }
  const auto experts = make_experts(context, "grouped", weights, DType::f32);
  Matrix x(DType::f32, 3, 16, 1), small(DType::f32, 2, 16, 1), half(DType::bf16, 3, 16, 1);
  const DispatchPlan plan = compact_plan({1, 2});
  EXPECT_THROW(experts->forward(context, plan, x.view(), small.view()), Error);
  EXPECT_THROW(experts->forward(context, plan, half.view(), half.view()), Error);
  MatrixView elsewhere = x.view();
  elsewhere.device = Device::cuda;
  try {
    experts->forward(context, plan, elsewhere, x.view());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unavailable);
  }
  EXPECT_THROW(experts->forward(context, compact_plan({3}), x.view(), x.view()), Error);
}

TEST(DenseProduct, MatchesThePlainSum) {
  Context context({.threads = 2, .isa = {}});
  Matrix x(DType::bf16, 19, 100, 1), w(DType::f32, 37, 100, 2), out(DType::f32, 19, 37, 3);
  DenseProduct product(context, w.view(), DType::bf16);
  product.run(context, x.view(), out.view());
  for (std::int64_t r = 0; r < 19; ++r) {
    for (std::int64_t j = 0; j < 37; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < 100; ++k) sum += x.at(r, k) * w.at(j, k);
      ASSERT_NEAR(out.at(r, j), sum, 1e-4);
    }
  }
}

}  // namespace
}  // namespace switchyard::gemm
