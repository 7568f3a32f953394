// pack puts element h of a token's row where the layout says.

#include "plan/plan_layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "plan/random_routing.h"
#include "switchyard/pack.h"

namespace switchyard {
namespace {

struct Packed {
  DispatchPlan plan;
  std::vector<float> rows;
};

Routing any_routing() {
  return random_routing({.seed = *rc::gen::arbitrary<std::uint64_t>(),
                         .tokens = *rc::gen::inRange<std::int64_t>(1, 40),
                         .experts = *rc::gen::inRange(1, 9),
                         .top_k = *rc::gen::inRange(1, 4),
                         .ragged = *rc::gen::arbitrary<bool>(),
                         .crowded = *rc::gen::inRange(0, 2)});
}

/// x[t, h] = 1 + t * H + h, so that every element tells where it is from.
Packed packed(const Routing& routing, const PlanOptions& options, std::int64_t hidden) {
  Context context({.threads = 2, .isa = {}});
  std::vector<float> x(static_cast<std::size_t>(routing.num_tokens * hidden));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
  Packed out;
  make_plan(context, routing, options, out.plan);
  const std::int64_t num_rows = out.plan.num_rows();
  out.rows.assign(static_cast<std::size_t>(num_rows * hidden),
                  std::numeric_limits<float>::quiet_NaN());
  pack(context, out.plan, matrix(std::as_const(x).data(), routing.num_tokens, hidden),
       matrix(out.rows.data(), num_rows, hidden));
  return out;
}

/// -1 in padding.
std::int32_t token_of(const DispatchPlan& plan, std::int64_t row) {
  return plan.token_of_row[static_cast<std::size_t>(row)];
}

float expected(std::int32_t token, std::int64_t hidden, std::int64_t h) {
  return token < 0 ? 0.0f : static_cast<float>(token * hidden + h + 1);
}

RC_GTEST_PROP(PlanLayout, CapacityRowsLieAtExpertRowElement, ()) {
  const Routing routing = any_routing();
  const auto hidden = *rc::gen::inRange<std::int64_t>(1, 40);
  const PlanOptions options{.layout = Layout::capacity,
                            .capacity_factor = *rc::gen::element(0.0, 0.5, 1.25)};
  const auto [plan, rows] = packed(routing, options, hidden);
  RC_PRE(plan.num_rows() > 0);
  const TensorLayout layout = capacity_layout(plan.num_experts, plan.capacity, hidden);
  RC_ASSERT(layout.size() == static_cast<std::int64_t>(rows.size()));
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    const auto index = static_cast<std::size_t>(e);
    for (std::int64_t c = 0; c < plan.capacity; ++c) {
      const std::int32_t token = token_of(plan, plan.expert_begin[index] + c);
      RC_ASSERT((token >= 0) == (c < plan.expert_rows[index]));
      for (std::int64_t h = 0; h < hidden; ++h) {
        RC_ASSERT(rows[static_cast<std::size_t>(layout(e, c, h))] == expected(token, hidden, h));
      }
    }
  }
}

RC_GTEST_PROP(PlanLayout, BlocksOfAnExpertAreItsOwn, ()) {
  const Routing routing = any_routing();
  const auto hidden = *rc::gen::inRange<std::int64_t>(1, 40);
  const auto block_rows = *rc::gen::inRange<std::int64_t>(1, 9);
  const auto [plan, rows] =
      packed(routing, {.layout = Layout::block, .block_rows = block_rows}, hidden);
  RC_PRE(plan.num_rows() > 0);
  RC_ASSERT(plan.num_rows() % block_rows == 0);
  const TensorLayout layout = block_layout(plan.num_rows() / block_rows, block_rows, hidden);
  RC_ASSERT(layout.size() == static_cast<std::int64_t>(rows.size()));
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    const auto index = static_cast<std::size_t>(e);
    const std::int64_t begin = plan.expert_begin[index], end = plan.expert_begin[index + 1];
    RC_ASSERT(begin % block_rows == 0);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int32_t token = token_of(plan, row);
      RC_ASSERT((token >= 0) == (row - begin < plan.expert_rows[index]));
      for (std::int64_t h = 0; h < hidden; ++h) {
        const std::int64_t offset = layout(row / block_rows, row % block_rows, h);
        RC_ASSERT(rows[static_cast<std::size_t>(offset)] == expected(token, hidden, h));
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
