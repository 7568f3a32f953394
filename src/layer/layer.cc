#include "switchyard/layer.h"

#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/context.h"
#include "gemm/dense.h"
#include "layer/device_layer.h"
#include "layer/mix.h"
#include "layer/router.h"
#include "plan/counts.h"
#include "routing/fusion.h"

namespace switchyard {
namespace {

/// Adds the time since the last call to a stage, where anybody asked.
class StageClock {
 public:
  explicit StageClock(StageTimes* times) : times_(times) {
    if (times_ != nullptr) *times_ = {};
  }

  void end_of(double StageTimes::*stage) {
    if (times_ == nullptr) return;
    const Clock::time_point now = Clock::now();
    times_->*stage += std::chrono::duration<double, std::milli>(now - begin_).count();
    begin_ = now;
  }

 private:
  using Clock = std::chrono::steady_clock;
  StageTimes* times_;
  Clock::time_point begin_ = Clock::now();
};

/// Every token to the one expert of a shared FFN: row t is token t.
void plan_all_tokens(std::int64_t tokens, DispatchPlan& plan) {
  if (plan.num_experts == 1 && plan.num_tokens == tokens) return;
  const auto count = static_cast<std::size_t>(tokens);
  plan.num_tokens = tokens;
  plan.num_experts = 1;
  plan.expert_begin = {0, tokens};
  plan.expert_rows = {tokens};
  plan.token_of_row.resize(count);
  plan.row_of_assignment.resize(count);
  plan.weight_of_assignment.assign(count, 1.0f);
  plan.token_begin.resize(count + 1);
  std::iota(plan.token_of_row.begin(), plan.token_of_row.end(), 0);
  std::iota(plan.row_of_assignment.begin(), plan.row_of_assignment.end(), 0);
  std::iota(plan.token_begin.begin(), plan.token_begin.end(), std::int64_t{0});
}

/// Every slot to its expert: row s is slot s, the "token" s of experts that own `per_expert` each.
void plan_slots(std::int64_t num_experts, std::int64_t per_expert, DispatchPlan& plan) {
  const auto experts = static_cast<std::size_t>(num_experts);
  const auto slots = static_cast<std::size_t>(num_experts * per_expert);
  plan.num_tokens = num_experts * per_expert;
  plan.num_experts = static_cast<int>(num_experts);
  plan.expert_rows.assign(experts, per_expert);
  plan.expert_begin.resize(experts + 1);
  for (std::size_t e = 0; e <= experts; ++e) {
    plan.expert_begin[e] = static_cast<std::int64_t>(e) * per_expert;
  }
  plan.token_of_row.resize(slots);
  plan.row_of_assignment.resize(slots);
  plan.weight_of_assignment.assign(slots, 1.0f);
  plan.token_begin.resize(slots + 1);
  std::iota(plan.token_of_row.begin(), plan.token_of_row.end(), 0);
  std::iota(plan.row_of_assignment.begin(), plan.row_of_assignment.end(), 0);
  std::iota(plan.token_begin.begin(), plan.token_begin.end(), std::int64_t{0});
}

void validate(const LayerConfig& config, const LayerWeights& weights) {
  const std::int64_t num_experts = weights.experts.up.count, hidden = weights.experts.up.cols;
  const int slots = config.router.slots_per_expert;
  const bool is_soft = config.strategy.is_soft();
  require(!is_soft || slots >= 1, "slots_per_expert is {}: expected 1 or more", slots);
  const std::int64_t outputs = is_soft ? num_experts * slots : num_experts;
  const RouterWeights& router = weights.router;
  require(router.num_experts() == outputs && router.hidden() == hidden,
          "router has {} outputs for hidden size {}: expected {} for {}", router.num_experts(),
          router.hidden(), outputs, hidden);
  if (weights.router_noise.data != nullptr) {
    require_shape("router_noise", weights.router_noise, num_experts, hidden);
    require(!is_soft, "router_noise is given with strategy '{}': expected none",
            config.strategy.name);
  }
  require(weights.bias.empty() || std::ssize(weights.bias) == num_experts,
          "bias has {} elements: expected {} or none", weights.bias.size(), num_experts);
  const bool has_shared = weights.shared.up.data != nullptr;
  if (has_shared) {
    require(weights.shared.up.count == 1,
            "shared holds {} experts: expected 1 of their joint width", weights.shared.up.count);
    require(weights.shared.up.cols == hidden, "shared is for hidden size {}: expected {}",
            weights.shared.up.cols, hidden);
  }
  if (weights.shared_gate.data != nullptr) {
    require(has_shared, "shared_gate is given without shared: expected both or neither");
    require_shape("shared_gate", weights.shared_gate, 1, hidden);
  }
}

}  // namespace

struct MoeLayer::Impl {
  Impl(Context& context, const LayerConfig& layer_config, const LayerWeights& weights,
       std::shared_ptr<Experts> prepacked)
      : config(layer_config),
        num_experts(weights.experts.up.count),
        hidden(weights.experts.up.cols),
        bias(weights.bias.begin(), weights.bias.end()),
        experts(std::move(prepacked)) {
    if (context.device() == Device::cuda) {
      on_device = std::make_unique<DeviceLayer>(context, config, weights, experts);
      return;
    }
    router.emplace(context, weights.router, config.dtype);
    if (weights.router_noise.data != nullptr) {
      router_noise.emplace(context, weights.router_noise, config.dtype);
    }
    if (weights.shared.up.data == nullptr) return;
    shared = make_experts(context, config.implementation, weights.shared, config.dtype);
    if (weights.shared_gate.data != nullptr) {
      shared_gate.emplace(context, weights.shared_gate, config.dtype);
    }
  }

  void check(ConstMatrixView x, MatrixView out) const {
    const Device device = on_device != nullptr ? Device::cuda : Device::cpu;
    require(x.cols == hidden, "x has {} columns: expected the hidden size {}", x.cols, hidden);
    require_shape("x", x, x.rows, hidden, device);
    require_shape("out", out, x.rows, hidden, device);
    require(x.dtype == config.dtype && out.dtype == config.dtype,
            "x is {} and out is {}: expected the layer's {}", name_of(x.dtype), name_of(out.dtype),
            name_of(config.dtype));
  }

  MatrixView take(Arena::Scope& scope, std::int64_t rows) const {
    const auto bytes = rows * hidden * static_cast<std::int64_t>(size_of(config.dtype));
    return {scope.take<std::byte>(bytes).data(), config.dtype, rows, hidden, hidden};
  }

  void route_tokens(Context& context, ConstMatrixView x, StageClock& clock) {
    Arena::Scope scope(arena_of(context));
    const MatrixView logits =
        matrix(scope.take<float>(x.rows * num_experts).data(), x.rows, num_experts);
    router->logits(context, x, logits);
    RouterInput input{logits, bias, {}};
    if (router_noise.has_value()) {
      const MatrixView noise =
          matrix(scope.take<float>(x.rows * num_experts).data(), x.rows, num_experts);
      router_noise->run(context, x, noise);
      input.noise_logits = noise;
    }
    clock.end_of(&StageTimes::logits);
    route_fused(context, config.strategy, input, config.router, {.counts = &counts}, routing);
    clock.end_of(&StageTimes::select);
  }

  /// Slots are means of tokens, outputs means of what the experts make of the slots.
  void mix_tokens(Context& context, ConstMatrixView x, MatrixView out, StageClock& clock) {
    Arena::Scope scope(arena_of(context));
    const std::int64_t slots = num_experts * config.router.slots_per_expert;
    const MatrixView logits = matrix(scope.take<float>(x.rows * slots).data(), x.rows, slots);
    router->logits(context, x, logits);
    clock.end_of(&StageTimes::logits);
    route_soft(context, config.strategy, {logits, {}, {}}, config.router, soft_routing);
    clock.end_of(&StageTimes::select);
    plan_slots(num_experts, config.router.slots_per_expert, plan);
    clock.end_of(&StageTimes::plan);
    const MatrixView in = take(scope, slots), expert_rows = take(scope, slots);
    mix(context, soft_routing.dispatch, x, in);
    clock.end_of(&StageTimes::pack);
    experts->forward(context, plan, in, expert_rows);
    clock.end_of(&StageTimes::experts);
    mix(context, soft_routing.combine, expert_rows, out);
    clock.end_of(&StageTimes::combine);
    if (shared != nullptr) add_shared(context, x, out);
    clock.end_of(&StageTimes::shared);
  }

  /// From the routing to the output.
  void dispatch(Context& context, ConstMatrixView x, MatrixView out, StageClock& clock) {
    make_plan_counted(context, routing, counts, config.plan, plan);
    clock.end_of(&StageTimes::plan);

    Arena::Scope scope(arena_of(context));
    ConstMatrixView rows = x;
    if (plan.layout != Layout::fused) {
      const MatrixView packed = take(scope, plan.num_rows());
      pack(context, plan, x, packed);
      rows = packed;
    }
    clock.end_of(&StageTimes::pack);
    const MatrixView expert_rows = take(scope, plan.num_rows());
    experts->forward(context, plan, rows, expert_rows);
    clock.end_of(&StageTimes::experts);
    combine(context, plan, expert_rows, out);
    clock.end_of(&StageTimes::combine);
    if (shared != nullptr) add_shared(context, x, out);
    clock.end_of(&StageTimes::shared);
  }

  /// out += sigmoid(x . shared_gate) * shared(x), as one more combine whose weights are the gates.
  void add_shared(Context& context, ConstMatrixView x, MatrixView out) {
    plan_all_tokens(x.rows, shared_plan);
    Arena::Scope scope(arena_of(context));
    const MatrixView shared_rows = take(scope, x.rows);
    shared->forward(context, shared_plan, x, shared_rows);
    if (shared_gate.has_value()) {
      std::vector<float>& gates = shared_plan.weight_of_assignment;
      shared_gate->run(context, x, matrix(gates.data(), x.rows, 1));
      for (float& gate : gates) gate = 1.0f / (1.0f + std::exp(-gate));
    }
    combine(context, shared_plan, shared_rows, out, true);
  }

  LayerConfig config;
  std::int64_t num_experts, hidden;
  std::vector<float> bias;
  std::shared_ptr<Experts> experts;
  std::unique_ptr<Experts> shared;
  std::unique_ptr<DeviceLayer> on_device;  ///< what computes, where the context has a device
  std::optional<Router> router;
  std::optional<gemm::DenseProduct> shared_gate, router_noise;
  Routing routing;
  AssignmentCounts counts;  // of `routing`, where it was selected here
  SoftRouting soft_routing;
  DispatchPlan plan, shared_plan;
};

MoeLayer::MoeLayer(Context& context, const LayerConfig& config, const LayerWeights& weights) {
  validate(config, weights);
  impl_ = std::make_unique<Impl>(
      context, config, weights,
      make_experts(context, config.implementation, weights.experts, config.dtype));
}
MoeLayer::MoeLayer(Context& context, const LayerConfig& config, const LayerWeights& weights,
                   std::shared_ptr<Experts> experts) {
  require(experts != nullptr, "experts is null: expected those of the layer");
  validate(config, weights);
  impl_ = std::make_unique<Impl>(context, config, weights, std::move(experts));
}
MoeLayer::~MoeLayer() = default;
MoeLayer::MoeLayer(MoeLayer&&) noexcept = default;
MoeLayer& MoeLayer::operator=(MoeLayer&&) noexcept = default;

void MoeLayer::forward(Context& context, ConstMatrixView x, MatrixView out, StageTimes* times) {
  impl_->check(x, out);
  if (impl_->on_device != nullptr) return impl_->on_device->forward(context, x, out, times);
  StageClock clock(times);
  Arena::Scope scope(arena_of(context));
  if (impl_->config.strategy.is_soft()) return impl_->mix_tokens(context, x, out, clock);
  impl_->route_tokens(context, x, clock);
  impl_->dispatch(context, x, out, clock);
}

void MoeLayer::forward(Context& context, ConstMatrixView x, const Routing& routing, MatrixView out,
                       StageTimes* times) {
  impl_->check(x, out);
  require(!impl_->config.strategy.is_soft(),
          "strategy '{}' mixes all tokens: expected forward without a routing",
          impl_->config.strategy.name);
  require(routing.num_tokens == x.rows, "routing is for {} tokens: expected {} as x has rows",
          routing.num_tokens, x.rows);
  require(routing.num_experts == impl_->num_experts, "routing is for {} experts: expected {}",
          routing.num_experts, impl_->num_experts);
  if (impl_->on_device != nullptr) {
    return impl_->on_device->forward(context, x, routing, out, times);
  }
  if (&routing != &impl_->routing) impl_->routing = routing;
  impl_->counts.hold = false;
  StageClock clock(times);
  impl_->dispatch(context, x, out, clock);
}

void MoeLayer::fetch(Context& context) {
  if (impl_->on_device != nullptr) impl_->on_device->fetch(context);
}

const Routing& MoeLayer::routing() const noexcept {
  return impl_->on_device != nullptr ? impl_->on_device->routing() : impl_->routing;
}
const DispatchPlan& MoeLayer::plan() const noexcept {
  return impl_->on_device != nullptr ? impl_->on_device->plan() : impl_->plan;
}
const SoftRouting& MoeLayer::soft_routing() const noexcept { return impl_->soft_routing; }
const Experts& MoeLayer::experts() const noexcept { return *impl_->experts; }

}  // namespace switchyard
