#include "switchyard/routing.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "routing/route_device.h"

namespace switchyard {

#define SWITCHYARD_STRATEGY(name) Strategy name##_strategy();
#include "routing/strategies.inc"
#undef SWITCHYARD_STRATEGY

namespace {

// Far beyond any model; keeps products of E in range.
constexpr std::int64_t kMaxExperts = 1 << 20;
// Beside scores of at most 1, a larger bias decides alone anyway.
constexpr float kMaxBias = 1e30f;
constexpr int kMaxSinkhornIters = 10000;
constexpr float kMaxNoise = 1e6f;

void validate_params(const RouterParams& params, int num_experts) {
  require(params.top_k >= 1 && params.top_k <= num_experts,
          "top_k is {}: expected 1 to {}, the number of experts", params.top_k, num_experts);
  require(std::isfinite(params.temperature) && std::isfinite(1.0f / params.temperature) &&
              params.temperature > 0,
          "temperature is {}: expected a finite number above 0", params.temperature);
  require(params.sinkhorn_iters >= 1 && params.sinkhorn_iters <= kMaxSinkhornIters,
          "sinkhorn_iters is {}: expected 1 to {}", params.sinkhorn_iters, kMaxSinkhornIters);
  require(std::isfinite(params.choice_capacity) && params.choice_capacity > 0,
          "choice_capacity is {}: expected a finite number above 0", params.choice_capacity);
  require(params.noise_std >= 0 && params.noise_std <= kMaxNoise,
          "noise_std is {}: expected 0 to {}", params.noise_std, kMaxNoise);
  require(std::isfinite(params.routed_scaling_factor) && params.routed_scaling_factor > 0,
          "routed_scaling_factor is {}: expected a finite number above 0",
          params.routed_scaling_factor);
  require(params.n_group >= 1 && num_experts % params.n_group == 0,
          "n_group is {}: expected a divisor of {}, the number of experts", params.n_group,
          num_experts);
  require(params.topk_group >= 1 && params.topk_group <= params.n_group,
          "topk_group is {}: expected 1 to {}, n_group", params.topk_group, params.n_group);
  const int num_kept = num_experts / params.n_group * params.topk_group;
  require(params.top_k <= num_kept,
          "top_k is {}: expected at most {}, the experts in {} of {} groups", params.top_k,
          num_kept, params.topk_group, params.n_group);
}

void validate_logits(const ConstMatrixView& logits, Device device = Device::cpu) {
  require(logits.dtype == DType::f32, "logits are {}: expected f32", name_of(logits.dtype));
  require(logits.rows >= 0, "logits have {} rows: expected 0 or more tokens", logits.rows);
  require(logits.cols >= 1 && logits.cols <= kMaxExperts,
          "logits have {} columns: expected 1 to {} experts", logits.cols, kMaxExperts);
  require_shape("logits", logits, logits.rows, logits.cols, device);
}

/// Of what comes beside the logits.
void validate_sizes(const RouterInput& input, Device device) {
  const ConstMatrixView& logits = input.logits;
  if (const ConstMatrixView& noise = input.noise_logits; noise.data != nullptr) {
    require(noise.dtype == DType::f32, "noise_logits are {}: expected f32", name_of(noise.dtype));
    require_shape("noise_logits", noise, logits.rows, logits.cols, device);
  }
  require(input.bias.empty() || std::ssize(input.bias) == logits.cols,
          "bias has {} elements: expected {}, one per expert, or none", input.bias.size(),
          logits.cols);
  require(input.token_ids.empty() || std::ssize(input.token_ids) == logits.rows,
          "token_ids has {} elements: expected {}, one per token, or none", input.token_ids.size(),
          logits.rows);
}

void validate_input(const RouterInput& input) {
  validate_logits(input.logits);
  validate_sizes(input, Device::cpu);
  for (std::size_t e = 0; e < input.bias.size(); ++e) {
    require(std::fabs(input.bias[e]) <= kMaxBias, "bias[{}] is {}: expected at most {} either way",
            e, input.bias[e], kMaxBias);
  }
}

}  // namespace

StrategyRegistry StrategyRegistry::builtin() {
  StrategyRegistry registry;
#define SWITCHYARD_STRATEGY(name) registry.add(name##_strategy());
#include "routing/strategies.inc"
#undef SWITCHYARD_STRATEGY
  return registry;
}

void StrategyRegistry::add(Strategy strategy) {
  require(!strategy.name.empty(), "strategy name is empty: expected a name");
  require(strategy.route != nullptr || strategy.is_soft(),
          "strategy '{}' has no route function: expected one", strategy.name);
  require(strategy.route == nullptr || !strategy.is_soft(),
          "strategy '{}' has route and route_soft: expected one of them", strategy.name);
  for (const Strategy& other : strategies_) {
    require(other.name != strategy.name, "strategy name '{}' is taken: expected a new one",
            strategy.name);
  }
  strategies_.push_back(std::move(strategy));
}

const Strategy& StrategyRegistry::find(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const Strategy& strategy : strategies_) {
    if (strategy.name == name) return strategy;
    names.push_back(strategy.name);
  }
  throw Error(ErrorCode::invalid_argument, unknown_name("strategy", name, names));
}

void route(Context& context, const Strategy& strategy, const RouterInput& input,
           const RouterParams& params, Routing& routing) {
  require(!strategy.is_soft(),
          "strategy '{}' mixes all tokens: expected one that sends tokens to experts",
          strategy.name);
  require(strategy.route != nullptr, "strategy '{}' has no route function: expected one",
          strategy.name);
  validate_input(input);
  validate_params(params, static_cast<int>(input.logits.cols));
  strategy.route(context, input, params, routing);
}

void validate_device_input(const RouterInput& input, const RouterParams& params) {
  validate_logits(input.logits, Device::cuda);
  validate_sizes(input, Device::cuda);
  validate_params(params, static_cast<int>(input.logits.cols));
}

void route_soft(Context& context, const Strategy& strategy, const RouterInput& input,
                const RouterParams& params, SoftRouting& routing) {
  require(strategy.is_soft(),
          "strategy '{}' sends tokens to experts: expected one that mixes all tokens",
          strategy.name);
  validate_logits(input.logits);
  require(params.slots_per_expert >= 1 && params.slots_per_expert <= kMaxExperts &&
              input.logits.cols % params.slots_per_expert == 0,
          "slots_per_expert is {}: expected a divisor of {}, the number of slots",
          params.slots_per_expert, input.logits.cols);
  strategy.route_soft(context, input, params, routing);
}

}  // namespace switchyard
