// Laws of plan, pack and combine together, with simple experts between them: expert e multiplies
// its rows by a factor of its own.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/philox.h"
#include "plan/random_routing.h"
#include "switchyard/combine.h"
#include "switchyard/pack.h"
#include "switchyard/plan.h"

namespace switchyard {
namespace {

constexpr Layout kLayouts[] = {Layout::compact, Layout::capacity, Layout::block, Layout::fused};

RandomRouting any_config() {
  RandomRouting config;
  config.seed = *rc::gen::arbitrary<std::uint64_t>();
  config.tokens = *rc::gen::inRange<std::int64_t>(0, 60);
  config.experts = *rc::gen::inRange(1, 20);
  config.top_k = *rc::gen::inRange(1, config.experts + 1);
  config.crowded = *rc::gen::element(0, 0, 1);
  return config;
}

// Small integers: their sums and products are exact in f32, so laws hold to the bit.
std::vector<float> integers(std::uint64_t seed, std::int64_t count) {
  const Philox random(seed, 3);
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>(random.word(static_cast<std::uint64_t>(i)) % 64) - 32.0f);
  }
  return values;
}

struct Identity {
  float operator()(int) const { return 1.0f; }
};
struct Distinct {
  float operator()(int e) const { return static_cast<float>(e + 1); }
};

/// pack, experts, combine of x [T, H]; the rows lie in memory full of NaN.
template <class Factor>
std::vector<float> dispatch(Context& context, const Routing& routing, const PlanOptions& options,
                            const std::vector<float>& x, std::int64_t hidden, Factor factor) {
  DispatchPlan plan;
  make_plan(context, routing, options, plan);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> rows(static_cast<std::size_t>(plan.num_rows() * hidden), kNan);
  pack(context, plan, matrix(x.data(), plan.num_tokens, hidden),
       matrix(rows.data(), plan.num_rows(), hidden));
  for (const float value : rows) EXPECT_TRUE(std::isfinite(value));
  for (int e = 0; e < plan.num_experts; ++e) {
    for (std::int64_t r = plan.expert_begin[e]; r < plan.expert_begin[e + 1]; ++r) {
      const bool is_padding = r >= plan.expert_begin[e] + plan.expert_rows[e];
      for (std::int64_t i = 0; i < hidden; ++i) {
        float& value = rows[static_cast<std::size_t>(r * hidden + i)];
        value = is_padding ? kNan : value * factor(e);
      }
    }
  }
  std::vector<float> out(static_cast<std::size_t>(plan.num_tokens * hidden), kNan);
  combine(context, plan, matrix(std::as_const(rows).data(), plan.num_rows(), hidden),
          matrix(out.data(), plan.num_tokens, hidden));
  return out;
}

RC_GTEST_PROP(Dispatch, IdentityExpertsReturnTheirInput, ()) {
  RandomRouting config = any_config();
  config.normalise = true;
  const Routing routing = random_routing(config);
  const auto hidden = *rc::gen::inRange<std::int64_t>(1, 90);
  const std::vector<float> x = integers(config.seed, config.tokens * hidden);
  Context context({.threads = 1, .isa = {}});
  const std::vector<float> out = dispatch(context, routing, {}, x, hidden, Identity{});
  // K weights were rounded, K products and sums are.
  const double tolerance = 3.0 * config.top_k * epsilon_of(DType::f32);
  for (std::size_t i = 0; i < x.size(); ++i) {
    RC_ASSERT(std::abs(out[i] - x[i]) <= tolerance * std::abs(x[i]));
  }
}

RC_GTEST_PROP(Dispatch, LayoutsIsasThreadsAndRunsAgree, ()) {
  const RandomRouting config = any_config();
  const Routing routing = random_routing(config);
  const auto hidden = *rc::gen::inRange<std::int64_t>(1, 90);
  PlanOptions options;
  options.capacity_factor = *rc::gen::element(0.0, 0.5, 1.0);
  options.drop_policy = *rc::gen::element(DropPolicy::position, DropPolicy::probs);
  options.renormalise = *rc::gen::arbitrary<bool>();
  const std::vector<float> x = integers(config.seed, config.tokens * hidden);
  Context first({.threads = 1, .isa = Isa::portable});
  const std::vector<float> expected = dispatch(first, routing, options, x, hidden, Distinct{});
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    Context context({.threads = 2, .isa = isa});
    for (const Layout layout : kLayouts) {
      options.layout = layout;
      for (int run = 0; run < 2; ++run) {
        RC_ASSERT(dispatch(context, routing, options, x, hidden, Distinct{}) == expected);
      }
    }
  }
}

RC_GTEST_PROP(Dispatch, PermutingTokensPermutesResults, ()) {
  const RandomRouting config = any_config();
  const Routing routing = random_routing(config);
  const auto hidden = *rc::gen::inRange<std::int64_t>(1, 40);
  const std::vector<float> x = integers(config.seed, config.tokens * hidden);
  std::vector<std::int64_t> order(static_cast<std::size_t>(config.tokens));
  std::iota(order.begin(), order.end(), 0);
  const Philox random(config.seed, 4);
  for (std::size_t t = order.size(); t > 1; --t) std::swap(order[t - 1], order[random.word(t) % t]);

  Routing permuted = routing;
  std::vector<float> permuted_x;
  permuted.expert.clear();
  permuted.weight.clear();
  for (std::size_t t = 0; t < order.size(); ++t) {
    const auto from = static_cast<std::size_t>(order[t]);
    for (std::int64_t a = routing.token_begin[from]; a < routing.token_begin[from + 1]; ++a) {
      permuted.expert.push_back(routing.expert[a]);
      permuted.weight.push_back(routing.weight[a]);
    }
    permuted.token_begin[t + 1] = permuted.num_assignments();
    permuted_x.insert(permuted_x.end(), x.begin() + order[t] * hidden,
                      x.begin() + (order[t] + 1) * hidden);
  }
  Context context({.threads = 1, .isa = {}});
  const std::vector<float> out = dispatch(context, routing, {}, x, hidden, Distinct{});
  const std::vector<float> permuted_out =
      dispatch(context, permuted, {}, permuted_x, hidden, Distinct{});
  for (std::size_t t = 0; t < order.size(); ++t) {
    RC_ASSERT(std::equal(out.begin() + order[t] * hidden, out.begin() + (order[t] + 1) * hidden,
                         permuted_out.begin() + static_cast<std::int64_t>(t) * hidden));
  }
}

// <pack x, y> = <x, pack^T y>: combine with weights of one is pack transposed.
RC_GTEST_PROP(Dispatch, CombineIsPackTransposed, ()) {
  RandomRouting config = any_config();
  config.ragged = true;
  Routing routing = random_routing(config);
  std::fill(routing.weight.begin(), routing.weight.end(), 1.0f);
  PlanOptions options;
  options.layout = *rc::gen::element(Layout::compact, Layout::capacity, Layout::block);
  options.capacity_factor = *rc::gen::element(0.0, 0.5);
  Context context({.threads = 1, .isa = {}});
  DispatchPlan plan;
  make_plan(context, routing, options, plan);
  const auto hidden = *rc::gen::inRange<std::int64_t>(1, 40);
  const std::int64_t num_rows = plan.num_rows(), num_tokens = plan.num_tokens;
  const std::vector<float> x = integers(config.seed, num_tokens * hidden);
  const std::vector<float> y = integers(config.seed + 1, num_rows * hidden);
  std::vector<float> packed(y.size()), combined(x.size());
  pack(context, plan, matrix(x.data(), num_tokens, hidden),
       matrix(packed.data(), num_rows, hidden));
  combine(context, plan, matrix(y.data(), num_rows, hidden),
          matrix(combined.data(), num_tokens, hidden));
  RC_ASSERT(std::inner_product(packed.begin(), packed.end(), y.begin(), 0.0) ==
            std::inner_product(x.begin(), x.end(), combined.begin(), 0.0));
}

}  // namespace
}  // namespace switchyard
