#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/buffer.h"
#include "base/cpu.h"
#include "gemm/dense.h"
#include "gemm/gemm_testing.h"
#include "gemm/kernel.h"
#include "switchyard/error.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {
namespace {

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
