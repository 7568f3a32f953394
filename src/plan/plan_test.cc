#include "switchyard/plan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <string>

#include "plan/plan_impl.h"
#include "plan/plan_reference.h"
#include "plan/random_routing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr Layout kLayouts[] = {Layout::compact, Layout::capacity, Layout::block, Layout::fused};
constexpr DropPolicy kPolicies[] = {DropPolicy::position, DropPolicy::probs};

Routing any_routing() {
  RandomRouting config;
  config.seed = *rc::gen::arbitrary<std::uint64_t>();
  config.tokens = *rc::gen::inRange<std::int64_t>(0, 200);
  config.experts = *rc::gen::inRange(1, 40);
  config.top_k = *rc::gen::inRange(1, config.experts + 1);
  config.ragged = *rc::gen::arbitrary<bool>();
  config.crowded = *rc::gen::element(0, 0, 1, 3);
  return random_routing(config);
}

PlanOptions any_options() {
  PlanOptions options;
  options.layout =
      *rc::gen::elementOf(std::vector<Layout>(std::begin(kLayouts), std::end(kLayouts)));
  options.capacity_factor = *rc::gen::element(0.0, 0.0, 0.1, 0.5, 1.0, 1.25, 4.0);
  options.drop_policy = *rc::gen::element(DropPolicy::position, DropPolicy::probs);
  options.renormalise = *rc::gen::arbitrary<bool>();
  options.block_rows = *rc::gen::inRange<std::int64_t>(1, 70);
  return options;
}

DispatchPlan planned(const Routing& routing, const PlanOptions& options, int threads = 1,
                     std::string_view implementation = "counting") {
  Context context({.threads = threads, .isa = {}});
  DispatchPlan plan;
  make_plan_with(implementation, context, routing, options, plan);
  return plan;
}

std::string error_of(const Routing& routing, const PlanOptions& options = {}) {
  try {
    planned(routing, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

Routing routing_of(int num_experts, const std::vector<std::vector<std::int32_t>>& experts,
                   std::vector<float> weights) {
  Routing routing;
  routing.num_tokens = std::ssize(experts);
  routing.num_experts = num_experts;
  routing.token_begin.push_back(0);
  for (const auto& token : experts) {
    routing.expert.insert(routing.expert.end(), token.begin(), token.end());
    routing.token_begin.push_back(routing.num_assignments());
  }
  routing.weight = std::move(weights);
  return routing;
}

bool can_drop_like(std::string_view implementation, const PlanOptions& options) {
  return plan_is_deterministic(implementation) || options.capacity_factor == 0 ||
         options.drop_policy == DropPolicy::probs;
}

bool is_as_promised(std::string_view implementation, const Routing& routing,
                    const DispatchPlan& plan, const DispatchPlan& expected) {
  return plan_is_deterministic(implementation) ? plans_are_equal(plan, expected)
                                               : plans_agree_in_any_order(routing, plan, expected);
}

RC_GTEST_PROP(Plan, EqualsTheReference, ()) {
  const Routing routing = any_routing();
  const PlanOptions options = any_options();
  const DispatchPlan expected = plan_reference(routing, options);
  for (const std::string_view implementation : plan_implementations()) {
    if (!can_drop_like(implementation, options)) continue;
    const DispatchPlan plan = planned(routing, options, 1, implementation);
    RC_ASSERT(is_as_promised(implementation, routing, plan, expected));
  }
}

RC_GTEST_PROP(Plan, EachKeptAssignmentOwnsOneRowAndTheRestIsPadding, ()) {
  const Routing routing = any_routing();
  const DispatchPlan plan = planned(routing, any_options());
  std::vector<int> owners(plan.token_of_row.size(), 0);
  for (std::int64_t t = 0; t < plan.num_tokens; ++t) {
    for (std::int64_t a = plan.token_begin[t]; a < plan.token_begin[t + 1]; ++a) {
      const std::int32_t row = plan.row_of_assignment[a], e = routing.expert[a];
      if (row == -1) continue;
      RC_ASSERT(row >= plan.expert_begin[e]);
      RC_ASSERT(row < plan.expert_begin[e] + plan.expert_rows[e]);
      RC_ASSERT(plan.token_of_row[row] == t);
      ++owners[row];
    }
  }
  for (int e = 0; e < plan.num_experts; ++e) {
    const std::int64_t kept_end = plan.expert_begin[e] + plan.expert_rows[e];
    for (std::int64_t r = plan.expert_begin[e]; r < plan.expert_begin[e + 1]; ++r) {
      RC_ASSERT(owners[r] == (r < kept_end ? 1 : 0));
      RC_ASSERT((plan.token_of_row[r] == -1) == (r >= kept_end));
      if (r > plan.expert_begin[e] && r < kept_end) {
        RC_ASSERT(plan.token_of_row[r - 1] < plan.token_of_row[r]);
      }
    }
  }
}

TEST(Plan, ThreadsAndImplementationsNeverChangeBits) {
  // Large enough that every thread has a range of its own.
  const Routing routing = random_routing(
      {.seed = 3, .tokens = 9001, .experts = 37, .top_k = 6, .ragged = true, .crowded = 1});
  for (const Layout layout : kLayouts) {
    for (const DropPolicy policy : kPolicies) {
      for (const double factor : {0.0, 0.8}) {
        const PlanOptions options = {layout, factor, policy, true, 16};
        const DispatchPlan expected = plan_reference(routing, options);
        for (const int threads : {1, 2, 3, 6}) {
          for (const std::string_view implementation : plan_implementations()) {
            if (!can_drop_like(implementation, options)) continue;
            const DispatchPlan plan = planned(routing, options, threads, implementation);
            EXPECT_TRUE(is_as_promised(implementation, routing, plan, expected))
                << name_of(layout) << " " << name_of(policy) << " " << factor << " "
                << implementation << " on " << threads;
          }
        }
      }
    }
  }
}

TEST(Plan, HandsOutEveryTokenOnceItsRowsAreThere) {
  for (const std::int64_t tokens : {0, 1, 33, 700}) {
    const Routing routing =
        random_routing({.seed = 9, .tokens = tokens, .experts = 7, .top_k = 3, .ragged = true});
    for (const int threads : {1, 3}) {
      const PlanOptions options = {.layout = Layout::block, .capacity_factor = 0.9};
      Context context({.threads = threads, .isa = {}});
      const DispatchPlan expected = plan_reference(routing, options);
      std::vector<int> placed(static_cast<std::size_t>(tokens), 0);
      DispatchPlan plan;
      make_plan_and(context, routing, options, plan, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) {
          bool is_there = plan.token_begin[t] == expected.token_begin[t] &&
                          plan.token_begin[t + 1] == expected.token_begin[t + 1];
          for (auto a = plan.token_begin[t]; is_there && a < plan.token_begin[t + 1]; ++a) {
            is_there = plan.row_of_assignment[a] == expected.row_of_assignment[a];
          }
          placed[t] += is_there ? 1 : -1000;
        }
      });
      EXPECT_EQ(placed, std::vector<int>(static_cast<std::size_t>(tokens), 1));
      EXPECT_TRUE(plans_are_equal(plan, expected));
    }
  }
}

TEST(Plan, ReusesAPlanWhateverItHeld) {
  Context context({.threads = 2, .isa = {}});
  DispatchPlan plan;
  for (const std::int64_t tokens : {5000, 3, 0, 4000}) {
    for (const Layout layout : kLayouts) {
      const Routing routing =
          random_routing({.seed = 5, .tokens = tokens, .experts = 9, .top_k = 4, .ragged = true});
      const PlanOptions options = {.layout = layout, .capacity_factor = 0.7, .block_rows = 8};
      make_plan(context, routing, options, plan);
      EXPECT_TRUE(plans_are_equal(plan, plan_reference(routing, options)));
    }
  }
}

TEST(Plan, ExtremeShapes) {
  for (const std::int64_t tokens : {0, 1, 65}) {
    for (const int experts : {1, 2, 64}) {
      for (const int top_k : {1, experts}) {
        for (const Layout layout : kLayouts) {
          for (const double factor : {0.0, 1e-300, 1.0, 40.0}) {
            const Routing routing = random_routing(
                {.seed = 7, .tokens = tokens, .experts = experts, .top_k = top_k, .crowded = 1});
            const PlanOptions options = {.layout = layout, .capacity_factor = factor};
            EXPECT_TRUE(
                plans_are_equal(planned(routing, options), plan_reference(routing, options)));
          }
        }
      }
    }
  }
}

TEST(Plan, PositionKeepsTheFirstAndProbsTheLargestThenTheLower) {
  // Four tokens on expert 0 of two experts; C = ceil(1 * 4 / 2) = 2.
  const Routing routing = routing_of(2, {{0}, {0}, {0}, {0}}, {0.25f, 0.5f, 0.75f, 0.5f});
  PlanOptions options = {.capacity_factor = 1.0};
  EXPECT_EQ(planned(routing, options).row_of_assignment, (std::vector<std::int32_t>{0, 1, -1, -1}));
  options.drop_policy = DropPolicy::probs;
  const DispatchPlan plan = planned(routing, options);
  EXPECT_EQ(plan.row_of_assignment, (std::vector<std::int32_t>{-1, 0, 1, -1}));
  EXPECT_EQ(plan.token_of_row, (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(plan.capacity, 2);
}

TEST(Plan, RenormaliseKeepsATokensSum) {
  // Expert 0 holds ceil(0.5 * 4 / 2) = 1 row: token 1 loses it and expert 1 takes all its weight.
  const Routing routing = routing_of(2, {{0}, {1, 0}, {0}}, {0.5f, 0.25f, 0.5f, 0.5f});
  const PlanOptions options = {.capacity_factor = 0.5, .renormalise = true};
  EXPECT_EQ(planned(routing, options).weight_of_assignment,
            (std::vector<float>{0.5f, 0.75f, 0.0f, 0.0f}));
}

TEST(Plan, RefusesBadOptions) {
  const Routing routing = random_routing({.tokens = 4, .experts = 2});
  for (const double factor : {-1.0, std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity(), 1e300}) {
    EXPECT_NE(error_of(routing, {.capacity_factor = factor}).find("capacity_factor"),
              std::string::npos);
  }
  EXPECT_NE(error_of(routing, {.layout = Layout::block, .block_rows = 0}).find("block_rows"),
            std::string::npos);
  const PlanOptions huge = {.layout = Layout::block, .block_rows = (std::int64_t{1} << 31) - 1};
  const Routing two = routing_of(2, {{0}, {1}}, {1, 1});
  EXPECT_NE(error_of(two, huge).find("4294967294 rows"), std::string::npos);
}

TEST(Plan, AtomicRefusesToDropByPosition) {
  const Routing routing = random_routing({.tokens = 4, .experts = 2});
  try {
    planned(routing, {.capacity_factor = 0.5}, 1, "atomic");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("position"), std::string::npos);
  }
}

TEST(Plan, AgreementInAnyOrderSeesEveryOtherDifference) {
  // Expert 0 takes tokens 0, 1 and 2, expert 1 takes token 2.
  const Routing routing = routing_of(2, {{0}, {0}, {0, 1}}, {1, 1, 0.5f, 0.5f});
  const DispatchPlan reference = plan_reference(routing, {});
  const auto agrees = [&](auto&& change) {
    DispatchPlan plan = reference;
    change(plan);
    return plans_agree_in_any_order(routing, plan, reference);
  };
  EXPECT_TRUE(agrees([](DispatchPlan&) {}));
  EXPECT_TRUE(agrees([](DispatchPlan& plan) {
    plan.token_of_row = {2, 0, 1, 2};
    plan.row_of_assignment = {1, 2, 0, 3};
  }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.token_of_row = {2, 0, 1, 2}; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.row_of_assignment = {0, 1, 3, 2}; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.row_of_assignment = {0, 1, 2, 9}; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.row_of_assignment = {0, 0, 2, 3}; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.row_of_assignment[3] = -1; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.token_of_row[0] = -1; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.weight_of_assignment[0] = 0.5f; }));
  EXPECT_FALSE(agrees([](DispatchPlan& plan) { plan.expert_rows = {2, 2}; }));
}

TEST(Plan, NamesRoundTrip) {
  for (const Layout layout : kLayouts) EXPECT_EQ(layout_from_name(name_of(layout)), layout);
  for (const DropPolicy p : kPolicies) EXPECT_EQ(drop_policy_from_name(name_of(p)), p);
  EXPECT_THROW(layout_from_name("compat"), Error);
  EXPECT_THROW(drop_policy_from_name(""), Error);
  Context context({.threads = 1, .isa = {}});
  DispatchPlan plan;
  EXPECT_THROW(make_plan_with("cuonting", context, {}, {}, plan), Error);
}

}  // namespace
}  // namespace switchyard
