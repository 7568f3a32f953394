// The whole layer. See router_inputs.h for what the routing source makes it run.

#include <array>

#include "base/check.h"
#include "bench/expert_inputs.h"
#include "bench/layer_soft.h"
#include "bench/router_inputs.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/traffic.h"
#include "bench/weight_cache.h"
#include "bench/work.h"
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

  std::span<const Stage> stages() const override { return {stages_.data(), num_stages_}; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    add_kernel(record, layer_.experts());
    const double weight_bytes = expert_bytes(cell_, in_->plans.mean(active_experts));
    double flops = expert_flops(cell_, in_->plans.mean(kept_assignments));
    double bytes = weight_bytes + row_bytes(cell_, 2 * static_cast<double>(cell_.tokens));
    double moved = moved_by_experts(cell_, in_->plans) + combined_bytes(cell_, in_->plans);
    if (cell_.layout != Layout::fused) moved += moved_by_pack(cell_, in_->plans);
    if (in_->has_router) {
      moved += row_bytes(cell_, static_cast<double>(cell_.tokens)) + router_bytes(cell_) +
               2 * logits_bytes(cell_);
      flops += router_flops(cell_);
      bytes += router_bytes(cell_);
    }
    record["flops"] = flops;
    record["bytes"] = bytes;
    record["bytes_moved"] = moved;
    record["weight_bytes"] = weight_bytes;
    add_limit(
        record,
        work_limit(flops, peak_of(ceilings, layer_.experts().isa(), multiplied_weights(cell_)),
                   bytes, ceilings.read_bw));
    add_load(record, in_->draws.routing(0), in_->plans.of_draw[0]);
    add_losses(record, in_->context, cell_, in_->draws, 0);
  }

 private:
  void keep(const StageTimes& times, double whole_ms) {
    num_stages_ = 0;
    const auto add = [&](std::string_view field, double value) {
      stages_[num_stages_++] = {field, value};
    };
    if (in_->has_router) add("t_logit_ms", times.logits);
    if (in_->draws.has_logits()) add("t_select_ms", times.select);
    add("t_plan_ms", times.plan);
    add("t_pack_ms", times.pack);
    add("t_route_ms", times.logits + times.select + times.plan + times.pack);
    add("t_experts_ms", times.experts);
    add("t_combine_ms", times.combine);
    add("routing_share", (times.select + times.plan + times.pack + times.combine) / whole_ms);
  }

  std::shared_ptr<Inputs> in_;
  Cell cell_;
  LayerConfig config_;
  MoeLayer layer_;
  Matrix out_;
  Routing routing_;
  std::int64_t draw_ = 0;
  std::array<Stage, 8> stages_;
  std::size_t num_stages_ = 0;
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

constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = prepare,
                                      .not_applicable = {},
                                      .has_router = true,
                                      .has_experts = true};

}  // namespace

Target layer_target() {
  return make_target<kMeasurement>("layer", "the whole layer: logits to combine",
                                   expert_implementations_ours_first());
}

}  // namespace switchyard
