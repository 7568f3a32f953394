// Implementations of the experts against the oracle, row by row, over plans laid out by hand.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "layer/layer_testing.h"
#include "switchyard/error.h"
#include "switchyard/quant.h"

namespace switchyard {
namespace {

using testing::Tensor;
using testing::TestExperts;

/// A plan whose expert e has rows[e] rows, of tokens dealt in turn from `tokens`.
DispatchPlan plan_of(Layout layout, const std::vector<std::int64_t>& rows, std::int64_t tokens) {
  DispatchPlan plan;
  plan.layout = layout;
  plan.num_tokens = tokens;
  plan.num_experts = static_cast<int>(rows.size());
  plan.expert_rows = rows;
  plan.expert_begin = {0};
  const std::int64_t fullest = *std::max_element(rows.begin(), rows.end());
  std::int32_t token = 0;
  for (const std::int64_t n : rows) {
    std::int64_t size = n;
    if (layout == Layout::capacity) size = fullest + 1;
    if (layout == Layout::block) size = (n + 6) / 7 * 7;
    for (std::int64_t i = 0; i < size; ++i) {
      plan.token_of_row.push_back(i < n ? token++ % static_cast<std::int32_t>(tokens) : -1);
    }
    plan.expert_begin.push_back(plan.num_rows());
  }
  return plan;
}

std::vector<double> row_of(const Tensor& x, std::int64_t t) {
  const ConstMatrixView view = x.view();
  std::vector<double> row;
  for (std::int64_t j = 0; j < view.cols; ++j) {
    const std::byte* at = view.row(t) + static_cast<std::size_t>(j) * size_of(view.dtype);
    switch (view.dtype) {
      case DType::f32: row.push_back(*reinterpret_cast<const float*>(at)); break;
      case DType::bf16: row.push_back(to_float(*reinterpret_cast<const bf16*>(at))); break;
      case DType::f16: row.push_back(to_float(*reinterpret_cast<const f16*>(at))); break;
    }
  }
  return row;
}

struct Case {
  std::string_view implementation;
  DType activations, weights;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.implementation << "_" << name_of(c.activations) << "_" << name_of(c.weights);
}

class Implementations : public ::testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Experts> make(Context& context, const ExpertWeights& weights) {
    try {
      return make_experts(context, GetParam().implementation, weights, GetParam().activations);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::unavailable) throw;
      return nullptr;
    }
  }

  struct Shape {
    std::vector<std::int64_t> rows;
    std::int64_t tokens, hidden, ffn;
    bool gated = true;
    Activation activation = Activation::silu;
    std::int64_t gap = 0;
  };

  void check(const Shape& s, Layout layout, int threads = 2) {
    SCOPED_TRACE(std::string(name_of(layout)) + " H=" + std::to_string(s.hidden) +
                 " F=" + std::to_string(s.ffn) + " gap=" + std::to_string(s.gap));
    Context context({.threads = threads, .isa = {}});
    const auto num_experts = static_cast<std::int64_t>(s.rows.size());
    const TestExperts experts(GetParam().weights, num_experts, s.hidden, s.ffn, s.gated,
                              s.activation, 17, s.gap);
    const auto made = make(context, experts.weights);
    if (made == nullptr) GTEST_SKIP() << "not in this build";
    const DispatchPlan plan = plan_of(layout, s.rows, s.tokens);
    const bool gathers = layout == Layout::fused;

    Tensor x(GetParam().activations, s.tokens, s.hidden, s.gap);
    x.fill_normal(3, 0, 1);
    Tensor rows(GetParam().activations, plan.num_rows(), s.hidden, s.gap);
    for (std::int64_t r = 0; r < plan.num_rows(); ++r) {
      const std::int32_t t = plan.token_of_row[static_cast<std::size_t>(r)];
      if (t < 0) continue;  // padding stays poisoned
      std::memcpy(rows.view().row(r), x.view().row(t),
                  static_cast<std::size_t>(s.hidden) * size_of(GetParam().activations));
    }
    Tensor out(GetParam().activations, plan.num_rows(), s.hidden, s.gap);
    Tensor expected_padding = out;
    made->forward(context, plan, gathers ? x.view() : rows.view(), out.view());

    const double tolerance =
        layer_tolerance(GetParam().activations, GetParam().weights, s.hidden, s.ffn);
    for (std::int64_t e = 0; e < num_experts; ++e) {
      const auto begin = plan.expert_begin[static_cast<std::size_t>(e)];
      std::vector<double> reference;
      std::vector<std::int64_t> kept;
      for (std::int64_t r = begin; r < begin + s.rows[static_cast<std::size_t>(e)]; ++r) {
        const std::vector<double> row = row_of(x, plan.token_of_row[static_cast<std::size_t>(r)]);
        const std::vector<double> result = reference_expert(experts.weights, e, row);
        reference.insert(reference.end(), result.begin(), result.end());
        kept.push_back(r);
      }
      if (!kept.empty()) {
        EXPECT_LE(relative_error(out.view(), reference, kept), tolerance) << "expert " << e;
      }
    }
    for (std::int64_t r = 0; r < plan.num_rows(); ++r) {
      if (plan.token_of_row[static_cast<std::size_t>(r)] >= 0) continue;
      EXPECT_EQ(std::memcmp(out.view().row(r), expected_padding.view().row(r),
                            static_cast<std::size_t>(s.hidden) * size_of(GetParam().activations)),
                0)
          << "padding row " << r << " was written";
    }

    Tensor again(GetParam().activations, plan.num_rows(), s.hidden, s.gap);
    made->forward(context, plan, gathers ? x.view() : rows.view(), again.view());
    EXPECT_EQ(out.bytes(), again.bytes()) << "two runs differ";
  }
};

TEST_P(Implementations, MatchTheOracleInEveryLayout) {
  for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block, Layout::fused}) {
    check({{3, 0, 17, 1, 40, 0}, 13, 48, 80}, layout);
  }
}

TEST_P(Implementations, MatchTheOracleOnSizesOfNoTile) {
  for (const std::int64_t gap : {0, 5}) {
    for (const Layout layout : {Layout::compact, Layout::block, Layout::fused}) {
      check({{5, 19, 0}, 9, 37, 53, true, Activation::gelu, gap}, layout);
    }
  }
  check({{2}, 1, 1, 1}, Layout::compact);
}

TEST_P(Implementations, MatchTheOracleWithoutAGate) {
  for (const Activation activation : {Activation::silu, Activation::gelu, Activation::relu}) {
    check({{33, 4}, 20, 64, 32, false, activation}, Layout::compact);
  }
}

TEST_P(Implementations, SurviveAllRowsOnOneExpertAndNone) {
  check({{0, 0, 70, 0}, 70, 32, 48}, Layout::compact);
  check({{0, 0, 70, 0}, 70, 32, 48}, Layout::capacity, 1);
  check({{0, 0}, 1, 32, 48}, Layout::compact);
}

TEST_P(Implementations, NameTheirKernel) {
  Context context({.threads = 1, .isa = {}});
  const TestExperts experts(GetParam().weights, 2, 32, 32, true, Activation::silu, 1);
  const auto made = make(context, experts.weights);
  if (made == nullptr) GTEST_SKIP() << "not in this build";
  RecordProperty("kernel", made->kernel());
  EXPECT_NE(made->kernel().find("f"), std::string::npos);
  EXPECT_NO_THROW(isa_from_name(made->isa())) << made->isa();
  EXPECT_GE(made->weight_bytes(), 3 * 2 * 32 * 32 * 2);
}

TEST_P(Implementations, RefuseShapesThatDoNotFit) {
  Context context({.threads = 1, .isa = {}});
  const TestExperts experts(GetParam().weights, 2, 32, 32, true, Activation::silu, 1);
  const auto made = make(context, experts.weights);
  if (made == nullptr) GTEST_SKIP() << "not in this build";
  const DispatchPlan plan = plan_of(Layout::compact, {2, 1}, 3);
  Tensor in(GetParam().activations, 3, 32), out(GetParam().activations, 3, 32);
  Tensor narrow(GetParam().activations, 3, 31);
  EXPECT_THROW(made->forward(context, plan, narrow.view(), out.view()), Error);
  EXPECT_THROW(made->forward(context, plan, in.view(), narrow.view()), Error);
  const DispatchPlan three = plan_of(Layout::compact, {1, 1, 1}, 3);
  EXPECT_THROW(made->forward(context, three, in.view(), out.view()), Error);
}

TEST(Masked, IsGroupedBitForBit) {
  Context context({.threads = 2, .isa = {}});
  const std::vector<std::int64_t> counts = {5, 0, 33, 17};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const TestExperts experts(dtype, 4, 40, 70, true, Activation::silu, 17);
    for (const Layout layout : {Layout::compact, Layout::block, Layout::fused}) {
      const DispatchPlan plan = plan_of(layout, counts, 30);
      Tensor in(dtype, layout == Layout::fused ? 30 : plan.num_rows(), 40);
      in.fill_normal(3, 0, 1);
      Tensor grouped(dtype, plan.num_rows(), 40), masked(dtype, plan.num_rows(), 40);
      make_experts(context, "grouped", experts.weights, dtype)
          ->forward(context, plan, in.view(), grouped.view());
      make_experts(context, "masked_matmul", experts.weights, dtype)
          ->forward(context, plan, in.view(), masked.view());
      EXPECT_EQ(grouped.bytes(), masked.bytes()) << name_of(layout);
    }
  }
}

TEST(Masked, RefusesManyExpertsWithTheReason) {
  Context context({.threads = 1, .isa = {}});
  const TestExperts experts(DType::f32, kMaxMaskedExperts + 1, 32, 32, true, Activation::silu, 17);
  try {
    make_experts(context, "masked_matmul", experts.weights, DType::f32);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("at most 64, because"), std::string::npos) << e.what();
  }
}

/// Expert e of `weights` in integers, and what those stand for.
struct OneQuantized {
  OneQuantized(Context& context, const ExpertWeights& weights, std::int64_t e,
               const QuantOptions& options) {
    const auto make = [&](const ConstMatricesView& all, QuantizedMatrices& to, Tensor& exact) {
      const ConstMatrixView one = all[e];
      to = quantize(context, {one.data, one.dtype, 1, one.rows, one.cols, one.row_stride, 0},
                    options);
      dequantize(context, to, exact.view());
    };
    make(weights.gate, integers.gate, gate);
    make(weights.up, integers.up, up);
    make(weights.down, integers.down, down);
  }
  ExpertWeights stand_for() const {
    return {gate.matrices(1), up.matrices(1), down.matrices(1), Activation::silu};
  }

  QuantizedExperts integers;
  Tensor gate{DType::f32, 24, 70}, up{DType::f32, 24, 70}, down{DType::f32, 70, 24};
};

TEST(Quantized, EveryImplementationMatchesItsOracle) {
  Context context({.threads = 2, .isa = {}});
  const std::vector<std::int64_t> counts = {5, 0, 19};
  const TestExperts experts(DType::bf16, 3, 70, 24, true, Activation::silu, 17);
  for (const std::string_view name : {"loop", "padded", "capacity", "block", "grouped"}) {
    const bool is_dequantised = name == "loop" || name == "padded";
    for (const QuantFormat format : {QuantFormat::int8, QuantFormat::int4}) {
      for (const DType dtype : {DType::bf16, DType::f32}) {
        const Layout layout = dtype == DType::bf16 ? Layout::capacity : Layout::fused;
        SCOPED_TRACE(fmt::format("{} {} {}", name, name_of(format), name_of(dtype)));
        const auto source = [&](std::int64_t e) {
          return OneQuantized(context, experts.weights, e, {.format = format}).integers;
        };
        std::unique_ptr<Experts> made;
        try {
          made = make_experts(context, name, 3, source, dtype);
        } catch (const Error& e) {
          if (e.code() != ErrorCode::unavailable) throw;
          continue;  // not in this build
        }
        const DispatchPlan plan = plan_of(layout, counts, 7);
        Tensor in(dtype, layout == Layout::fused ? 7 : plan.num_rows(), 70);
        in.fill_normal(3, 0, 1);
        Tensor out(dtype, plan.num_rows(), 70);
        made->forward(context, plan, in.view(), out.view());
        for (const std::int64_t e : {0, 2}) {
          const OneQuantized one(context, experts.weights, e, {.format = format});
          const auto begin = plan.expert_begin[static_cast<std::size_t>(e)];
          for (std::int64_t r = begin; r < begin + counts[static_cast<std::size_t>(e)]; ++r) {
            const auto token = plan.token_of_row[static_cast<std::size_t>(r)];
            const std::vector<double> row = row_of(in, layout == Layout::fused ? token : r);
            const std::vector<double> expected =
                is_dequantised ? reference_expert(one.stand_for(), 0, row)
                               : reference_quantized_expert(one.stand_for(), 0, row, dtype);
            // Groups of int4 may be joined: see docs/numerics.md.
            const double joined = format == QuantFormat::int4 ? 8.0 / 127 / 4 : 0.0;
            EXPECT_LE(relative_error(out.view(), expected, std::vector<std::int64_t>{r}),
                      layer_tolerance(DType::bf16, DType::bf16, 70, 24) + joined);
          }
        }
      }
    }
  }
}

TEST(Quantized, AreRefusedByNameAndReason) {
  Context context({.threads = 1, .isa = {}});
  const TestExperts experts(DType::bf16, 1, 70, 24, true, Activation::silu, 17);
  const auto made = [&](std::string_view name) {
    return make_experts(
        context, name, 1,
        [&](std::int64_t e) { return OneQuantized(context, experts.weights, e, {}).integers; },
        DType::bf16);
  };
  EXPECT_THROW(made("gruoped"), Error);
  try {
    made("masked_matmul");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unavailable);
    EXPECT_NE(std::string(e.what()).find("expected loop, padded, capacity, block or grouped"),
              std::string::npos)
        << e.what();
  }
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const std::string_view implementation : expert_implementations()) {
    out.push_back({implementation, DType::f32, DType::f32});
    out.push_back({implementation, DType::bf16, DType::bf16});
    out.push_back({implementation, DType::f16, DType::f16});
    out.push_back({implementation, DType::f32, DType::bf16});
    out.push_back({implementation, DType::bf16, DType::f32});
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, Implementations, ::testing::ValuesIn(cases()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace switchyard
