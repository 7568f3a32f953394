// The whole layer. See router_inputs.h for what the routing source makes it run.

#include <vector>

#include "base/check.h"
#include "bench/device_subject.h"
#include "bench/expert_inputs.h"
#include "bench/layer_soft.h"
#include "bench/router_inputs.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/traffic.h"
#include "bench/weight_cache.h"
#include "bench/work.h"
#include "layer/device_router.h"
#include "layer/layer_reference.h"
#include "switchyard/layer.h"

namespace switchyard {
namespace {

struct Inputs : RouterInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source, WeightCache& kept)
      : RouterInputs(c, cell, source), context(c), cache(kept) {
    raw = cache.raw(c, cell);
    weights.router = router.weights();
    weights.experts = raw->weights();
    const Routing& routing = draws.routing(0);
    const DispatchPlan& plan = plans.of_draw[0];
    if (has_router) check_logits(c, x_of(0), weights.router, draws.logits(0), cell.seed);
    if (draws.has_logits()) require_passed(check_routing(cell, draws, routing));
    check_plan(routing, options, plan);
    checked_tokens = covering_tokens(
        routing, plan,
        affordable_sample(mean_assignments(draws) / static_cast<double>(cell.tokens) *
                          expert_flops(cell, 1) / 2),
        cell.seed);
  }

  /// What the layer must make of draw 0, on `checked_tokens`.
  const std::vector<double>& reference_of(const Cell& cell) {
    return reference.of(cell, [&] {
      const DispatchPlan& plan = plans.of_draw[0];
      const auto rows = raw->reference(context, cell.impl, x_of(0),
                                       inputs_of_tokens(draws.routing(0), plan, checked_tokens));
      return reference_sums(plan, checked_tokens, rows, cell.hidden);
    });
  }

  Context& context;
  WeightCache& cache;
  std::shared_ptr<const RawExperts> raw;
  LayerWeights weights;
  std::vector<std::int64_t> checked_tokens;  ///< that cover every active expert
  ExpertReference reference;
};

LayerConfig layer_config(const Cell& cell) {
  return {.strategy = strategy_of(cell),
          .router = cell.router,
          .plan = plan_options_of(cell),
          .implementation = cell.impl,
          .dtype = cell.dtype};
}

void describe_whole(Record& record, const Inputs& in, const Cell& cell, const Ceilings& ceilings,
                    double peak) {
  const double weight_bytes = expert_bytes(cell, in.plans.mean(active_experts));
  double flops = expert_flops(cell, in.plans.mean(kept_assignments));
  double bytes = weight_bytes + row_bytes(cell, 2 * static_cast<double>(cell.tokens));
  double moved = moved_by_experts(cell, in.plans) + combined_bytes(cell, in.plans);
  if (cell.layout != Layout::fused) moved += moved_by_pack(cell, in.plans);
  if (in.has_router) {
    moved += row_bytes(cell, static_cast<double>(cell.tokens)) + router_bytes(cell) +
             2 * logits_bytes(cell);
    flops += router_flops(cell);
    bytes += router_bytes(cell);
  }
  record["flops"] = flops;
  record["bytes"] = bytes;
  record["bytes_moved"] = moved;
  record["weight_bytes"] = weight_bytes;
  add_limit(record, limit_of(flops, peak, bytes, ceilings.read_bw));
  add_load(record, in.draws.routing(0), in.plans.of_draw[0]);
  add_losses(record, in.context, cell, in.draws, 0);
}

std::vector<Stage> stages_of(const StageTimes& times, double whole_ms, bool has_router,
                             bool selects) {
  std::vector<Stage> stages;
  if (has_router) stages.push_back({"t_logit_ms", times.logits});
  if (selects) stages.push_back({"t_select_ms", times.select});
  stages.push_back({"t_plan_ms", times.plan});
  stages.push_back({"t_pack_ms", times.pack});
  stages.push_back({"t_route_ms", times.logits + times.select + times.plan + times.pack});
  stages.push_back({"t_experts_ms", times.experts});
  stages.push_back({"t_combine_ms", times.combine});
  const double around = times.select + times.plan + times.pack + times.combine;
  stages.push_back({"routing_share", whole_ms > 0 ? around / whole_ms : 0});
  return stages;
}

class LayerSubject final : public Subject {
 public:
  LayerSubject(std::shared_ptr<Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        config_(layer_config(cell)),
        layer_(in_->context, config_, in_->weights, in_->cache.experts(in_->context, cell)),
        out_(cell.dtype, cell.tokens, cell.hidden) {}

  Check check() override {
    out_.poison();
    prepare(0);
    run();
    // The reference followed the routing of draw 0, which was checked by itself.
    require_same_routing(in_->draws.routing(0), layer_.routing());
    return {.rel_err = relative_error(out_.view(), in_->reference_of(cell_), in_->checked_tokens),
            .tol = expert_tolerance(cell_)};
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    Stopwatch whole;
    StageTimes times;
    if (in_->has_router) {
      layer_.forward(in_->context, in_->x_of(draw_), out_.view(), &times);
    } else if (in_->draws.has_logits()) {
      Stopwatch select;
      route(in_->context, config_.strategy, in_->draws.input(draw_), config_.router, routing_);
      const double select_ms = select.lap_ms();
      layer_.forward(in_->context, in_->x_of(0), routing_, out_.view(), &times);
      times.select = select_ms;
    } else {
      layer_.forward(in_->context, in_->x_of(0), in_->draws.routing(draw_), out_.view(), &times);
    }
    keep(times, whole.lap_ms());
  }

  std::span<const Stage> stages() const override { return stages_; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    add_kernel(record, layer_.experts());
    describe_whole(record, *in_, cell_, ceilings,
                   peak_of(ceilings, layer_.experts().isa(), multiplied_weights(cell_)));
  }

 private:
  void keep(const StageTimes& times, double whole_ms) {
    stages_ = stages_of(times, whole_ms, in_->has_router, in_->draws.has_logits());
  }

  std::shared_ptr<Inputs> in_;
  Cell cell_;
  LayerConfig config_;
  MoeLayer layer_;
  Matrix out_;
  Routing routing_;
  std::int64_t draw_ = 0;
  std::vector<Stage> stages_;
};

/// On a device. With a router the whole layer is one piece of work and its stages are runs of their
/// own. Without, the routing comes from the host, and a sample is the sum of the stages after it.
class DeviceLayerSubject final : public DeviceSubject {
 public:
  DeviceLayerSubject(std::shared_ptr<Inputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws),
        in_(std::move(in)),
        cell_(cell),
        layer_(context(), layer_config(cell), in_->weights, in_->cache.experts(context(), cell)),
        out_(context(), cell.dtype, cell.tokens, cell.hidden) {
    for (const Matrix& x : in_->x) x_.emplace_back(context(), x.view());
    if (!in_->has_router) return;
    const auto forward = [this](std::int64_t d) {
      layer_.forward(context(), x_[static_cast<std::size_t>(d)].view(), out_.view());
    };
    set_work(forward, device_experts_are_captured(cell));
  }

  Check check() override {
    prepare(0);
    out_.poison(context());
    run();
    layer_.fetch(context());
    check_routed();
    check_plan(layer_.routing(), in_->options, layer_.plan());
    const auto rows =
        in_->raw->reference(context(), cell_.impl, in_->x_of(0),
                            inputs_of_tokens(layer_.routing(), layer_.plan(), in_->checked_tokens));
    const auto expected = reference_sums(layer_.plan(), in_->checked_tokens, rows, cell_.hidden);
    const Matrix out = out_.fetch(context(), cell_.tokens);
    return {.rel_err = relative_error(out.view(), expected, in_->checked_tokens),
            .tol = expert_tolerance(cell_)};
  }

  void prepare(std::int64_t i) override {
    if (in_->has_router) return DeviceSubject::prepare(i);
    routed_draw_ = draws().wrap(i);
    run_stages();
  }

  void run() override {
    if (in_->has_router) return DeviceSubject::run();
    run_stages();
  }

  bool runs_stages_apart() const override { return in_->has_router; }

  void run_stages() override {
    StageTimes times;
    if (in_->has_router) {
      layer_.forward(context(), x_[static_cast<std::size_t>(draw())].view(), out_.view(), &times);
    } else {
      layer_.forward(context(), x_[0].view(), draws().routing(routed_draw_), out_.view(), &times);
    }
    ms_ = times.logits + times.select + times.plan + times.pack + times.experts + times.combine;
    stages_ = stages_of(times, ms_, in_->has_router, in_->has_router);
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    add_kernel(record, layer_.experts());
    describe_whole(record, *in_, cell_, ceilings, device_peak(context(), ceilings, cell_.dtype));
  }

 private:
  /// By the logits that the device gives the tokens of draw 0, themselves checked.
  void check_routed() {
    if (!in_->has_router) return require_same_routing(draws().routing(0), layer_.routing());
    const DeviceMatrix logits(context(), DType::f32, cell_.tokens, cell_.experts);
    DeviceRouter(context(), in_->weights.router, cell_.dtype)
        .run(context(), x_[0].view(), logits.view());
    const Matrix found = logits.fetch(context(), cell_.tokens);
    check_logits(context(), in_->x_of(0), in_->weights.router, found.view(), cell_.seed);
    const RouterInput input{.logits = found.view(), .bias = {}, .token_ids = {}};
    require_passed(check_routing(cell_, input, layer_.routing()));
  }

  std::shared_ptr<Inputs> in_;
  Cell cell_;
  MoeLayer layer_;
  std::vector<DeviceMatrix> x_;
  DeviceMatrix out_;
  std::int64_t routed_draw_ = 0;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  if (strategy_of(cell).is_soft()) return soft_layer_cost(cell, load);
  const double tokens = static_cast<double>(cell.tokens);
  const double packed_rows = cell.layout == Layout::fused ? 0 : load.rows;
  const bool router = has_router(cell);
  return {
      .shared_bytes = raw_expert_bytes(cell) + router_input_bytes(cell) + routing_bytes(cell, load),
      .own_bytes = implementation_bytes(cell, load) +
                   row_bytes(cell, packed_rows + load.rows + tokens) +
                   tokens * cell.experts * sizeof(float) + router_bytes(cell),
      .flops = expert_flops(cell, load.kept) + (router ? router_flops(cell) : 0),
      .touched_bytes = expert_bytes(cell, load.active) + row_bytes(cell, 2 * tokens) +
                       (router ? router_bytes(cell) : 0)};
}

MakeSubject prepare(Context& context, const Cell& cell, const RoutingSource& source,
                    WeightCache& weights) {
  if (strategy_of(cell).is_soft()) return prepare_soft_layer(context, cell, source, weights);
  return share_with_experts<Inputs, LayerSubject>(context, cell, source, weights);
}

MakeSubject prepare_on_device(Context& context, const Cell& cell, const RoutingSource& source,
                              WeightCache& weights) {
  if (strategy_of(cell).is_soft()) {
    throw Error(
        ErrorCode::unavailable,
        fmt::format("bench layer with strategy {} does not run on device cuda", cell.strategy));
  }
  return share_with_experts<Inputs, DeviceLayerSubject>(context, cell, source, weights);
}

constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = prepare,
                                      .prepare_on_device = prepare_on_device,
                                      .not_applicable = {},
                                      .has_router = true,
                                      .has_experts = true};

}  // namespace

Target layer_target() {
  return make_target<kMeasurement>("layer", "the whole layer: logits to combine",
                                   expert_implementations_ours_first(),
                                   expert_implementations_ours_first(Device::cuda));
}

}  // namespace switchyard
