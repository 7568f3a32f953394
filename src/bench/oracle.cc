#include "bench/oracle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/context.h"
#include "base/philox.h"
#include "layer/layer_reference.h"
#include "plan/plan_impl.h"
#include "plan/plan_reference.h"
#include "routing/routing_reference.h"
#include "switchyard/load.h"

namespace switchyard {
namespace {

/// Of a weight: exp and a sum over E terms in f32, a division.
constexpr double kWeightTolerance = 64 * epsilon_of(DType::f32);

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

template <class... Args>
void expect(bool holds, fmt::format_string<Args...> sentence, Args&&... args) {
  if (!holds) {
    throw Error(ErrorCode::check_failed, fmt::format(sentence, std::forward<Args>(args)...));
  }
}

std::vector<double> row_of(ConstMatrixView m, std::int64_t i) {
  std::vector<double> row(index(m.cols));
  for (std::int64_t j = 0; j < m.cols; ++j) {
    switch (m.dtype) {
      case DType::f32: row[index(j)] = reinterpret_cast<const float*>(m.row(i))[j]; break;
      case DType::bf16: row[index(j)] = to_float(reinterpret_cast<const bf16*>(m.row(i))[j]); break;
      case DType::f16: row[index(j)] = to_float(reinterpret_cast<const f16*>(m.row(i))[j]); break;
    }
  }
  return row;
}

}  // namespace

void check_plan(const Routing& routing, const PlanOptions& options, const DispatchPlan& plan,
                std::string_view plan_implementation) {
  const DispatchPlan reference = plan_reference(routing, options);
  expect(plan_is_deterministic(plan_implementation)
             ? plans_are_equal(plan, reference)
             : plans_agree_in_any_order(routing, plan, reference),
         "the plan of {} assignments is not the reference's", routing.num_assignments());
}

void require_same_routing(const Routing& expected, const Routing& actual) {
  expect(expected.token_begin == actual.token_begin, "{} assignments were routed: expected {}",
         actual.num_assignments(), expected.num_assignments());
  for (std::int64_t t = 0; t < expected.num_tokens; ++t) {
    for (auto a = index(expected.token_begin[index(t)]);
         a < index(expected.token_begin[index(t + 1)]); ++a) {
      expect(expected.expert[a] == actual.expert[a] && expected.weight[a] == actual.weight[a],
             "token {} goes to expert {} with weight {}: expected {} with {}", t, actual.expert[a],
             actual.weight[a], expected.expert[a], expected.weight[a]);
    }
  }
}

Check check_routing(const Cell& cell, const Draws& draws, const Routing& routing) {
  return check_routing(cell, draws.input(0), routing);
}

Check check_routing(const Cell& cell, const RouterInput& input, const Routing& routing) {
  std::vector<bool> close_calls;
  const Routing ref = reference_route(cell.strategy, input, cell.router, &close_calls);
  const std::string difference = first_difference(routing, ref, kWeightTolerance, close_calls);
  expect(difference.empty(), "{}", difference);
  double error = 0;
  double norm = 0;
  for (std::int64_t t = 0; t < ref.num_tokens; ++t) {
    if (close_calls[index(t)]) continue;
    // The others have as many experts in both, but not from the same place on.
    const auto begin = ref.token_begin[index(t)], own_begin = routing.token_begin[index(t)];
    for (std::int64_t i = 0; i < ref.token_begin[index(t + 1)] - begin; ++i) {
      const double weight = ref.weight[index(begin + i)];
      const double off = routing.weight[index(own_begin + i)] - weight;
      error += off * off;
      norm += weight * weight;
    }
  }
  return {.rel_err = norm > 0 ? std::sqrt(error / norm) : 0, .tol = kWeightTolerance};
}

void check_logits(Context& context, ConstMatrixView x, const RouterWeights& router,
                  ConstMatrixView logits, std::uint64_t seed) {
  const double multiply_adds = static_cast<double>(router.hidden()) *
                               static_cast<double>(router.num_experts() + 2 * router.width());
  const std::int64_t sample = affordable_sample(multiply_adds);
  const Philox random(seed, 0);
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < sample; ++i) {
    tokens.push_back(random.word(static_cast<std::uint64_t>(i)) % x.rows);
  }
  const std::int64_t experts = router.num_experts();
  std::vector<double> ref(index(sample * experts));
  pool_of(context).for_each(sample, [&](std::int64_t i, int) {
    const auto row = reference_logits(x, router, {&tokens[index(i)], 1});
    std::copy(row.begin(), row.end(), ref.begin() + i * experts);
  });
  const double error = relative_error(logits, ref, tokens);
  const double tolerance = logits_tolerance(router, x.dtype);
  expect(error <= tolerance, "the logits are off by {:.3g}: expected at most {:.3g}", error,
         tolerance);
}

void require_logits(const Cell& cell, const Draws& draws) {
  require(draws.has_logits(), "--routing {}: {} needs logits, a trace has assignments only",
          cell.routing, cell.bench);
}

void check_drops(const Routing& routing, const PlanOptions& options, const DispatchPlan& plan) {
  const auto num_assignments = static_cast<double>(routing.expert.size());
  const double capacity =
      options.capacity_factor > 0
          ? std::ceil(options.capacity_factor * num_assignments / routing.num_experts)
          : num_assignments;
  // Assignments as an expert ranks them; of equals the first stays in front.
  std::vector<std::size_t> order(routing.expert.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (options.drop_policy == DropPolicy::probs) {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return routing.weight[a] > routing.weight[b];
    });
  }
  std::vector<double> taken(index(routing.num_experts));
  std::vector<bool> is_dropped(order.size());
  std::int64_t assignments = 0;
  for (const std::size_t a : order) {
    is_dropped[a] = ++taken[index(routing.expert[a])] > capacity;
    assignments += is_dropped[a];
  }
  std::int64_t tokens = 0;
  for (std::size_t t = 0; t < index(routing.num_tokens); ++t) {
    const std::int64_t begin = routing.token_begin[t], end = routing.token_begin[t + 1];
    tokens += begin < end && std::all_of(is_dropped.begin() + begin, is_dropped.begin() + end,
                                         [](bool dropped) { return dropped; });
  }
  const DropStats found = drop_stats(plan);
  const auto expect_share = [](std::string_view what, double share, std::int64_t count, double of) {
    expect(std::abs(share * of - static_cast<double>(count)) < 0.5,
           "{} {} of {} were dropped: expected {}", share * of, what, of, count);
  };
  expect_share("assignments", found.drop_rate, assignments, num_assignments);
  expect_share("tokens", found.token_drop_rate, tokens, static_cast<double>(routing.num_tokens));
}

Check check_packed(const Routing& routing, const PlanOptions& options, const DispatchPlan& plan,
                   ConstMatrixView x, ConstMatrixView rows, std::string_view plan_implementation) {
  check_plan(routing, options, plan, plan_implementation);
  constexpr std::size_t kMostWrong = 16;
  const std::size_t bytes = index(x.cols) * size_of(x.dtype);
  const std::vector<std::byte> zero(bytes);
  std::vector<std::int64_t> wrong;
  std::vector<double> ref;
  for (std::int64_t r = 0; r < rows.rows && wrong.size() < kMostWrong; ++r) {
    const std::int32_t token = plan.token_of_row[index(r)];
    const std::byte* expected = token < 0 ? zero.data() : x.row(token);
    if (std::memcmp(rows.row(r), expected, bytes) == 0) continue;
    wrong.push_back(r);
    const auto row = token < 0 ? std::vector<double>(index(x.cols)) : row_of(x, token);
    ref.insert(ref.end(), row.begin(), row.end());
  }
  if (wrong.empty()) return {};
  return {.rel_err = relative_error(rows, ref, wrong), .tol = 0};
}

Check check_combined(Context& context, const Routing& routing, const DispatchPlan& plan,
                     ConstMatrixView rows, ConstMatrixView out, std::uint64_t seed) {
  const auto most = std::max<std::size_t>(1, routing.expert.size());
  const double row_cost = static_cast<double>(out.cols) * static_cast<double>(most) /
                          static_cast<double>(std::max<std::int64_t>(1, routing.num_tokens));
  const auto tokens = covering_tokens(
      routing, plan, std::max<std::int64_t>(64, static_cast<std::int64_t>(1e8 / row_cost)), seed);
  std::vector<double> ref(tokens.size() * index(out.cols));
  pool_of(context).for_each(static_cast<std::int64_t>(tokens.size()), [&](std::int64_t i, int) {
    const std::int64_t t = tokens[index(i)];
    double* sum = &ref[index(i * out.cols)];
    for (auto a = plan.token_begin[index(t)]; a < plan.token_begin[index(t + 1)]; ++a) {
      const std::int32_t row = plan.row_of_assignment[index(a)];
      if (row < 0) continue;
      const auto values = row_of(rows, row);
      for (std::size_t j = 0; j < values.size(); ++j) {
        sum[j] += plan.weight_of_assignment[index(a)] * values[j];
      }
    }
  });
  // One rounding to the dtype, and one of f32 per term, whose size may pass the sum's.
  const double terms = static_cast<double>(most) /
                       static_cast<double>(std::max<std::int64_t>(1, routing.num_tokens));
  return {.rel_err = relative_error(out, ref, tokens),
          .tol = epsilon_of(out.dtype) + 4 * (terms + 1) * epsilon_of(DType::f32)};
}

std::int64_t affordable_sample(double multiply_adds) {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(2e9 / std::max(1.0, multiply_adds)), 4,
                                  64);
}

std::vector<ExpertInput> inputs_of_rows(const DispatchPlan& plan,
                                        std::span<const std::int64_t> rows) {
  std::vector<ExpertInput> inputs;
  for (const std::int64_t row : rows) {
    const auto after = std::upper_bound(plan.expert_begin.begin(), plan.expert_begin.end(), row);
    const std::int64_t at = plan.layout == Layout::fused ? plan.token_of_row[index(row)] : row;
    inputs.push_back({after - plan.expert_begin.begin() - 1, at});
  }
  return inputs;
}

std::vector<ExpertInput> inputs_of_tokens(const Routing& routing, const DispatchPlan& plan,
                                          std::span<const std::int64_t> tokens) {
  std::vector<ExpertInput> inputs;
  for (const std::int64_t t : tokens) {
    for (auto a = index(plan.token_begin[index(t)]); a < index(plan.token_begin[index(t + 1)]);
         ++a) {
      if (plan.row_of_assignment[a] >= 0) inputs.push_back({routing.expert[a], t});
    }
  }
  return inputs;
}

std::vector<double> reference_sums(const DispatchPlan& plan, std::span<const std::int64_t> tokens,
                                   std::span<const double> expert_rows, std::int64_t hidden) {
  std::vector<double> ref(tokens.size() * index(hidden));
  const double* expert_row = expert_rows.data();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    double* sum = &ref[i * index(hidden)];
    for (auto a = index(plan.token_begin[index(tokens[i])]);
         a < index(plan.token_begin[index(tokens[i] + 1)]); ++a) {
      if (plan.row_of_assignment[a] < 0) continue;
      for (std::int64_t j = 0; j < hidden; ++j) {
        sum[j] += plan.weight_of_assignment[a] * expert_row[j];
      }
      expert_row += hidden;
    }
  }
  return ref;
}

std::vector<double> reference_experts(Context& context, const ExpertWeights& weights,
                                      ConstMatrixView in, std::span<const ExpertInput> inputs) {
  std::vector<double> ref(inputs.size() * index(in.cols));
  pool_of(context).for_each(std::ssize(inputs), [&](std::int64_t i, int) {
    const ExpertInput& input = inputs[index(i)];
    const auto out = reference_expert(weights, input.expert, row_of(in, input.row));
    std::copy(out.begin(), out.end(), ref.begin() + i * in.cols);
  });
  return ref;
}

std::vector<std::int64_t> covering_rows(const DispatchPlan& plan, std::int64_t per_expert,
                                        std::uint64_t seed) {
  const Philox random(seed, 0);
  std::vector<std::int64_t> rows;
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    const std::int64_t begin = plan.expert_begin[index(e)];
    const std::int64_t count = plan.expert_rows[index(e)];
    std::vector<std::int64_t> chosen;
    for (std::int64_t i = 0; i < std::min(per_expert, count); ++i) {
      const auto draw = random.word(static_cast<std::uint64_t>(e * per_expert + i));
      chosen.push_back(i == 0 ? begin : i == 1 ? begin + count - 1 : begin + draw % count);
    }
    std::sort(chosen.begin(), chosen.end());
    rows.insert(rows.end(), chosen.begin(), std::unique(chosen.begin(), chosen.end()));
  }
  return rows;
}

}  // namespace switchyard
