#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "base/context.h"
#include "base/philox.h"
#include "gemm/panel.h"
#include "gemm/quant_product.h"
#include "switchyard/error.h"
#include "switchyard/quant.h"

namespace switchyard::gemm {
namespace {

std::vector<float> normals(std::int64_t count, std::uint64_t stream, float scale = 1) {
  const Philox random(17, stream);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = scale * random.normal(i);
  return out;
}

std::vector<float> values_of(Context& context, const QuantizedMatrices& q) {
  std::vector<float> out(static_cast<std::size_t>(q.count * q.rows * q.cols));
  dequantize(context, q, matrix(out.data(), q.count * q.rows, q.cols));
  return out;
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  }
  return sum;
}

const std::vector<QuantOptions>& all_options() {
  static const std::vector<QuantOptions> options = [] {
    std::vector<QuantOptions> out;
    for (const ScaleSearch search : {ScaleSearch::absmax, ScaleSearch::mse}) {
      out.push_back({QuantFormat::int8, 32, false, search});
      for (const std::int64_t group : {32, 64, 128}) {
        for (const bool zero_points : {false, true}) {
          out.push_back({QuantFormat::int4, group, zero_points, search});
        }
      }
    }
    return out;
  }();
  return options;
}

TEST(Quantize, IsOffByHalfAStepAtMost) {
  Context context({.threads = 2, .isa = {}});
  for (const QuantOptions& options : all_options()) {
    if (options.search == ScaleSearch::mse) continue;
    for (const std::int64_t cols : {1, 31, 200}) {
      std::vector<float> w = normals(2 * 5 * cols, 1, 0.02f);
      for (std::int64_t k = 0; k < cols; ++k) w[static_cast<std::size_t>(cols + k)] = 0;
      const QuantizedMatrices q = quantize(context, matrices(w.data(), 2, 5, cols), options);
      const std::vector<float> back = values_of(context, q);
      for (std::size_t i = 0; i < w.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i) / cols,
                   k = static_cast<std::int64_t>(i) % cols;
        const float step = q.scales[static_cast<std::size_t>(row * q.groups() + k / q.group)];
        // With zero points 0 has a code, so the ends of the range may miss by the other half step;
        // f16 holds 11 bits of a scale, so 15 steps may miss by 15 * 2^-11 of one.
        const float half_steps = options.zero_points ? 1.02f : 0.51f;
        ASSERT_LE(std::abs(back[i] - w[i]), step * half_steps + 1e-12f)
            << name_of(options.format) << options.group << options.zero_points << " at " << i;
      }
    }
  }
}

TEST(Quantize, SearchNeverDoesWorseThanAbsmax) {
  Context context({.threads = 1, .isa = {}});
  std::vector<float> w = normals(64 * 256, 2, 0.02f);
  w[77] = 0.4f;  // an outlier, which absmax serves and 31 others pay for
  for (QuantOptions options : all_options()) {
    options.search = ScaleSearch::absmax;
    const auto view = matrices(w.data(), 1, 64, 256);
    const double plain = squared_distance(w, values_of(context, quantize(context, view, options)));
    options.search = ScaleSearch::mse;
    const double searched =
        squared_distance(w, values_of(context, quantize(context, view, options)));
    EXPECT_LE(searched, plain) << name_of(options.format) << options.group;
    if (options.format == QuantFormat::int4) {
      EXPECT_LT(searched, 0.95 * plain);
    }
  }
}

TEST(Quantize, CountsItsBytes) {
  Context context({.threads = 1, .isa = {}});
  const std::vector<float> w = normals(4 * 256, 3);
  const auto view = matrices(w.data(), 1, 4, 256);
  EXPECT_EQ(quantize(context, view, {.format = QuantFormat::int8}).bytes(), 4 * 256 + 4 * 4);
  EXPECT_EQ(quantize(context, view, {}).bytes(), 4 * 128 + 4 * 8 * 2);
  EXPECT_EQ(quantize(context, view, {.group = 128, .zero_points = true}).bytes(),
            4 * 128 + 4 * 2 * 3);
}

TEST(Quantize, RefusesWhatItCannotHold) {
  Context context({.threads = 2, .isa = {}});
  std::vector<float> w = normals(4 * 64, 3);
  const auto view = matrices(w.data(), 1, 4, 64);
  EXPECT_THROW(quantize(context, view, {.group = 48}), Error);
  EXPECT_THROW(quantize(context, view, {.format = QuantFormat::int8, .zero_points = true}), Error);
  EXPECT_THROW(quantize(context, {}, {}), Error);
  w[70] = 1e9f;  // its scale is beyond f16
  EXPECT_NO_THROW(quantize(context, view, {.format = QuantFormat::int8}));
  EXPECT_THROW(quantize(context, view, {}), Error);
  w[70] = NAN;
  try {
    quantize(context, view, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("row 1"), std::string::npos) << e.what();
  }
}

TEST(QuantRow, VariantsAgreeBitForBit) {
  constexpr std::int64_t kDepth = 256;
  std::vector<float> x = normals(kDepth, 4, 3);
  for (const float special : {0.0f, 1e-40f, 3e38f, INFINITY, -NAN}) {
    for (const std::int64_t cols : {1, 17, 200, 256}) {
      if (special == 0) std::fill_n(x.begin(), 64, 0.0f);
      x[0] = special;
      std::vector<bf16> b(kDepth);
      std::vector<f16> h(kDepth);
      for (std::size_t i = 0; i < kDepth; ++i) {
        b[i] = from_float<bf16>(x[i]);
        h[i] = from_float<f16>(x[i]);
      }
      const void* data[] = {x.data(), b.data(), h.data()};
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        std::vector<std::int8_t> expected(kDepth), out(kDepth);
        std::vector<std::int32_t> expected_sums(8), sums(8);
        RowArgs args{data[static_cast<int>(dtype)], cols, kDepth, 32, expected.data(),
                     expected_sums.data()};
        const float scale = find_quant_row(Isa::portable, dtype)(args);
        EXPECT_EQ(std::isfinite(scale), std::isfinite(to_float(from_float<f16>(special))) ||
                                            (dtype != DType::f16 && std::isfinite(special)));
        for (const Isa isa : {Isa::avx2, Isa::avx512}) {
          if (!isa_is_available(isa)) continue;
          std::fill(out.begin(), out.end(), std::int8_t{1});
          std::fill(sums.begin(), sums.end(), 1);
          args.out = out.data();
          args.sums = sums.data();
          const float other = find_quant_row(isa, dtype)(args);
          EXPECT_EQ(std::memcmp(&scale, &other, 4) == 0 || (std::isnan(scale) && std::isnan(other)),
                    true);
          EXPECT_EQ(expected, out) << name_of(isa) << name_of(dtype) << cols << " " << special;
          EXPECT_EQ(expected_sums, sums) << name_of(isa) << name_of(dtype) << cols << special;
        }
      }
    }
  }
}

constexpr std::int64_t kColumns = 8 * 32 + 18;  // the last stripe is not full

// A product of random rows and weights, by one kernel, in one part or several.
struct KernelCase {
  QuantOptions options;
  std::int64_t rows, inputs, part;
};

// The last stripe's, multiplied together with the `stripes` - 1 before it.
std::vector<float> run_kernel(const QuantKernel& kernel, const KernelCase& c,
                              const QuantWeights& weights, const QuantRows& rows,
                              std::int64_t stripes, bool in_order = false) {
  const std::int64_t depth = weights.depth(), stripe_acc = round_up(c.rows, 16) * 32;
  Buffer acc_memory(stripes * stripe_acc * 4), scratch(kQuantScratchBytes);
  float* acc = acc_memory.elements<float>(1);
  if (kernel.begin != nullptr) kernel.begin(kTileRows);
  for (std::int64_t k = 0; k < depth; k += c.part) {
    kernel.run({rows.data,
                rows.stride,
                rows.scales,
                rows.sums,
                rows.groups,
                weights.stripe(0, kColumns / 32 + 1 - stripes),
                depth,
                k,
                std::min(depth, k + c.part),
                weights.group(),
                weights.zero_points(),
                acc,
                c.rows,
                scratch.data(),
                {},
                stripes,
                weights.stripe_bytes(),
                stripe_acc,
                stripes > 1 || in_order ? weights.stripe(0, 0) : nullptr,
                in_order});
  }
  if (kernel.end != nullptr) kernel.end();
  const float* last = acc + (stripes - 1) * stripe_acc;
  return {last, last + c.rows * 32};
}

// Of the weight (row j, column k) where the groups within 512 of depth are brought to one scale of
// 8 bits: see docs/numerics.md.
double largest_joined_error(const QuantizedMatrices& q, std::int64_t j, std::int64_t k) {
  double most = 0;
  const std::int64_t groups = 512 / q.group, first = k / 512 * groups;
  for (std::int64_t g = first; g < std::min(first + groups, q.groups()); ++g) {
    const auto i = static_cast<std::size_t>(j * q.groups() + g);
    const int zero = q.zeros.empty() ? 8 : q.zeros[i];
    most = std::max(most, std::abs(q.scales[i]) * std::max({8.0, 1.0 * zero, 15.0 - zero}));
  }
  return 0.52 * most / 127;
}

TEST(QuantKernel, VariantsGiveTheExactSums) {
  for (const QuantOptions& options : all_options()) {
    if (options.search == ScaleSearch::mse) continue;  // other numbers, nothing else
    for (const KernelCase& c : {KernelCase{options, 1, 64, 4096},
                                {options, 5, 300, 4096},
                                {options, 2, 640, 4096},
                                {options, 2, 500, 256},
                                {options, 3, 1300, 640},
                                {options, 4, 900, 4096},
                                {options, 6, 512, 4096},
                                {options, 8, 700, 256},
                                {options, 9, 500, 4096},
                                {options, 16, 640, 384},
                                {options, 17, 512, 128},
                                {options, 12, 1100, 4096},
                                {options, 70, 1400, 1024},
                                {options, 100, 1200, 4096},
                                {options, 33, 40, 4096}}) {
      Context context({.threads = 1, .isa = {}});
      const std::vector<float> w = normals(kColumns * c.inputs, 5, 0.1f),
                               x = normals(c.rows * c.inputs, 6);
      const QuantizedMatrices q =
          quantize(context, matrices(w.data(), 1, kColumns, c.inputs), options);
      const std::vector<float> back = values_of(context, q);
      QuantProduct product(context, QuantWeights(q, 1, false));
      product.weights().place(context, 0, nullptr, q);
      Arena::Scope scope(arena_of(context));
      const QuantRows rows =
          product.quantize_rows(context, scope, matrix(x.data(), c.rows, c.inputs), c.rows);
      std::vector<float> portable;
      for (auto kernel = quant_kernels().rbegin(); kernel != quant_kernels().rend(); ++kernel) {
        if (kernel->weights != options.format || !isa_is_available(kernel->isa)) continue;
        const std::vector<float> got = run_kernel(*kernel, c, product.weights(), rows, 1);
        if (kernel->isa == Isa::portable) portable = got;
        const bool joins = kernel->isa == Isa::amx_bf16 && options.format == QuantFormat::int4 &&
                           c.rows > kTileRows;
        for (std::int64_t r = 0; r < c.rows; ++r) {
          for (std::int64_t j = kColumns / 32 * 32; j < kColumns; ++j) {
            double sum = 0, magnitude = 0;
            for (std::int64_t k = 0; k < c.inputs; ++k) {
              const double term = static_cast<double>(rows.data[r * rows.stride + k]) *
                                  rows.scales[r] * back[static_cast<std::size_t>(j * c.inputs + k)];
              sum += term;
              magnitude += std::abs(term);
            }
            // All is exact but for the folding, and for joined scales.
            double slack = 4 * 0x1p-23 * magnitude + 1e-30;
            for (std::int64_t k = 0; joins && k < c.inputs; ++k) {
              slack += std::abs(rows.data[r * rows.stride + k]) * rows.scales[r] *
                       largest_joined_error(q, j, k);
            }
            ASSERT_NEAR(got[static_cast<std::size_t>(r * 32 + j % 32)], sum, slack)
                << switchyard::name_of(kernel->isa) << " " << name_of(options.format) << " group "
                << options.group << " zero points " << options.zero_points << " rows " << c.rows
                << " at " << r << ", " << j;
          }
        }
        if (!joins) {
          EXPECT_EQ(portable, got) << switchyard::name_of(kernel->isa);
        }
        EXPECT_EQ(got, run_kernel(*kernel, c, product.weights(), rows, 1, true)) << "in order";
        for (std::int64_t n = 2; n <= kernel->stripes && c.rows <= kernel->stripe_rows; ++n) {
          EXPECT_EQ(got, run_kernel(*kernel, c, product.weights(), rows, n)) << n << " stripes";
        }
      }
    }
  }
}

DispatchPlan plan_of(const std::vector<std::int64_t>& rows_of_expert, std::int64_t tokens) {
  DispatchPlan plan;
  plan.layout = Layout::fused;
  plan.num_experts = static_cast<int>(rows_of_expert.size());
  plan.num_tokens = tokens;
  plan.expert_begin = {0};
  for (const std::int64_t rows : rows_of_expert) {
    for (std::int64_t i = 0; i < rows; ++i) {
      plan.token_of_row.push_back(static_cast<std::int32_t>((plan.num_rows() * 7) % tokens));
    }
    plan.expert_rows.push_back(rows);
    plan.expert_begin.push_back(plan.num_rows());
  }
  return plan;
}

struct Model {
  std::int64_t experts, hidden, ffn;
  QuantizedExperts weights;
  std::vector<float> gate, up, down;  // what the integers stand for

  Model(Context& context, const QuantOptions& options, std::int64_t e, std::int64_t h,
        std::int64_t f, bool gated)
      : experts(e), hidden(h), ffn(f) {
    const float by_h = 1 / std::sqrt(static_cast<float>(h));
    const float by_f = 1 / std::sqrt(static_cast<float>(f));
    const auto made = [&](std::uint64_t stream, std::int64_t rows, std::int64_t cols, float scale,
                          std::vector<float>& values) {
      const std::vector<float> w = normals(e * rows * cols, stream, scale);
      QuantizedMatrices q = quantize(context, matrices(w.data(), e, rows, cols), options);
      values = values_of(context, q);
      return q;
    };
    if (gated) weights.gate = made(1, f, h, by_h, gate);
    weights.up = made(2, f, h, by_h, up);
    weights.down = made(3, h, f, by_f, down);
  }

  std::vector<double> apply(std::int64_t e, const float* x) const {
    std::vector<double> inner(static_cast<std::size_t>(ffn)), out(static_cast<std::size_t>(hidden));
    for (std::int64_t f = 0; f < ffn; ++f) {
      double g = 0, u = 0;
      for (std::int64_t k = 0; k < hidden; ++k) {
        const auto at = static_cast<std::size_t>((e * ffn + f) * hidden + k);
        if (!gate.empty()) g += static_cast<double>(gate[at]) * x[k];
        u += static_cast<double>(up[at]) * x[k];
      }
      const double a = gate.empty() ? u : g;
      inner[static_cast<std::size_t>(f)] = a / (1 + std::exp(-a)) * (gate.empty() ? 1 : u);
    }
    for (std::int64_t h = 0; h < hidden; ++h) {
      for (std::int64_t f = 0; f < ffn; ++f) {
        out[static_cast<std::size_t>(h)] +=
            inner[static_cast<std::size_t>(f)] *
            down[static_cast<std::size_t>((e * hidden + h) * ffn + f)];
      }
    }
    return out;
  }
};

std::vector<float> forward(Context& context, const Model& model, const DispatchPlan& plan,
                           const std::vector<float>& x) {
  const auto made = make_experts(context, model.weights, DType::f32);
  std::vector<float> out(static_cast<std::size_t>(plan.num_rows() * model.hidden), -7.0f);
  made->forward(context, plan, matrix(x.data(), plan.num_tokens, model.hidden),
                matrix(out.data(), plan.num_rows(), model.hidden));
  return out;
}

TEST(GroupedQuantized, MatchesTheOracleOfTheDequantisedWeights) {
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    Context context({.threads = 2, .isa = isa});
    for (const QuantOptions& options : all_options()) {
      if (options.search == ScaleSearch::mse) continue;
      const Model model(context, options, 4, 150, 70, options.group != 64);
      const DispatchPlan plan = plan_of({3, 0, 37, 1}, 11);
      const std::vector<float> x = normals(plan.num_tokens * model.hidden, 9);
      const std::vector<float> out = forward(context, model, plan, x);
      double error = 0, norm = 0;
      for (std::int64_t e = 0; e < 4; ++e) {
        for (std::int64_t r = plan.expert_begin[static_cast<std::size_t>(e)];
             r < plan.expert_begin[static_cast<std::size_t>(e) + 1]; ++r) {
          const std::vector<double> expected = model.apply(
              e, x.data() + plan.token_of_row[static_cast<std::size_t>(r)] * model.hidden);
          for (std::int64_t h = 0; h < model.hidden; ++h) {
            const double ref = expected[static_cast<std::size_t>(h)];
            const double got = out[static_cast<std::size_t>(r * model.hidden + h)];
            error += (got - ref) * (got - ref);
            norm += ref * ref;
          }
        }
      }
      // Two roundings of activations to a step of max/127: for normal rows of this width max is
      // some 2.7 deviations, the error of a uniform step 2.7 / 127 / sqrt(12), and thrice for gate,
      // up and the rows between.
      EXPECT_LE(std::sqrt(error / norm), 3 * 2.7 / 127 / std::sqrt(12.0) * 1.5)
          << switchyard::name_of(isa) << " " << name_of(options.format) << options.group;
    }
  }
}

TEST(GroupedQuantized, GivesTheSameBitsOnAnyThreadsAndRuns) {
  for (const QuantFormat format : {QuantFormat::int8, QuantFormat::int4}) {
    Context one({.threads = 1, .isa = {}}), three({.threads = 3, .isa = {}});
    const Model model(one, {.format = format}, 3, 128, 96, true);
    const DispatchPlan plan = plan_of({40, 5, 130}, 64);
    const std::vector<float> x = normals(plan.num_tokens * model.hidden, 9);
    const std::vector<float> expected = forward(one, model, plan, x);
    EXPECT_EQ(expected, forward(three, model, plan, x));
    EXPECT_EQ(expected, forward(three, model, plan, x));

    DispatchPlan packed = plan;
    packed.layout = Layout::compact;
    packed.num_tokens = packed.num_rows();
    std::vector<float> rows;
    for (const std::int32_t token : plan.token_of_row) {
      const auto row = x.begin() + token * model.hidden;
      rows.insert(rows.end(), row, row + model.hidden);
    }
    EXPECT_EQ(expected, forward(one, model, packed, rows));
    EXPECT_EQ(expected, forward(three, model, packed, rows));
  }
}

TEST(GroupedQuantized, GivesTheSameBitsPastTheCaches) {
  Context context({.threads = 2, .isa = {}});
  const Model model(context, {.format = QuantFormat::int8}, 1, 4096, 24, true);
  const DispatchPlan few = plan_of({50}, 600), many = plan_of({600}, 600);
  const std::vector<float> x = normals(many.num_tokens * model.hidden, 9);
  std::vector<float> out = forward(context, model, many, x);
  ASSERT_GT(out.size() * sizeof(float), std::size_t{8} << 20);  // so past the caches
  out.resize(static_cast<std::size_t>(few.num_rows() * model.hidden));
  EXPECT_EQ(out, forward(context, model, few, x));
}

TEST(GroupedQuantized, PassesNanOnAndNothingElse) {
  Context context({.threads = 1, .isa = {}});
  const Model model(context, {}, 2, 64, 32, true);
  const DispatchPlan plan = plan_of({3, 14}, 17);
  std::vector<float> x = normals(plan.num_tokens * model.hidden, 9);
  x[static_cast<std::size_t>(plan.token_of_row[5] * model.hidden + 3)] = INFINITY;
  const std::vector<float> out = forward(context, model, plan, x);
  for (std::int64_t r = 0; r < plan.num_rows(); ++r) {
    EXPECT_EQ(std::isnan(out[static_cast<std::size_t>(r * model.hidden)]), r == 5) << r;
  }
}

TEST(GroupedQuantized, TakesExpertsOneAtATime) {
  Context context({.threads = 2, .isa = {}});
  const Model all(context, {.zero_points = true}, 3, 64, 40, true);
  const auto slice = [](const QuantizedMatrices& m, std::int64_t e) {
    QuantizedMatrices one = m;
    one.count = 1;
    const auto part = [&](auto& v) {
      const auto size = static_cast<std::ptrdiff_t>(v.size()) / m.count;
      v = {v.begin() + e * size, v.begin() + (e + 1) * size};
    };
    part(one.values);
    part(one.scales);
    part(one.zeros);
    return one;
  };
  const auto made = make_experts(
      context, 3,
      [&](std::int64_t e) {
        return QuantizedExperts{slice(all.weights.gate, e), slice(all.weights.up, e),
                                slice(all.weights.down, e), Activation::silu};
      },
      DType::f32);
  const DispatchPlan plan = plan_of({4, 20, 1}, 9);
  const std::vector<float> x = normals(plan.num_tokens * all.hidden, 9);
  std::vector<float> out(static_cast<std::size_t>(plan.num_rows() * all.hidden), -7.0f);
  made->forward(context, plan, matrix(x.data(), plan.num_tokens, all.hidden),
                matrix(out.data(), plan.num_rows(), all.hidden));
  EXPECT_EQ(out, forward(context, all, plan, x));
}

TEST(GroupedQuantized, RefusesPiecesThatDoNotFit) {
  Context context({.threads = 1, .isa = {}});
  Model model(context, {}, 2, 64, 96, true);
  QuantizedExperts broken = model.weights;
  broken.down.group = 64;
  EXPECT_THROW(make_experts(context, broken, DType::f32), Error);
  broken = model.weights;
  broken.up.scales.pop_back();
  EXPECT_THROW(make_experts(context, broken, DType::f32), Error);
  broken = model.weights;
  broken.gate.format = QuantFormat::int8;
  EXPECT_THROW(make_experts(context, broken, DType::f32), Error);
  EXPECT_THROW(make_experts(context, QuantizedExperts{}, DType::f32), Error);
}

}  // namespace
}  // namespace switchyard::gemm
