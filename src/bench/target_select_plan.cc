// Logits to plan: what a layer does between its router and its rows.
//   fused_select  one pass over the logits that selects, weighs and counts; a plan from the counts
//   naive_topk    softmax, top-k and a plan by sorting, each as passes of its own

#include <array>
#include <optional>

#include "bench/dispatch_inputs.h"
#include "bench/naive_topk.h"
#include "bench/oracle.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "plan/plan_impl.h"
#include "routing/fusion.h"
#include "topk/topk.h"

namespace switchyard {
namespace {

struct Inputs : DispatchInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : DispatchInputs(c, cell, source) {
    require_logits(cell, draws);
  }
};

class SelectPlanSubject final : public Subject {
 public:
  SelectPlanSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)), cell_(cell), strategy_(strategy_of(cell)) {
    if (cell_.impl == "fused_select") return;
    require_topk_softmax(cell_);
    naive_.emplace(in_->context, cell.tokens, cell.experts);
  }

  Check check() override {
    prepare(0);
    run();
    check_plan(routing_, in_->options, plan_);
    return check_routing(cell_, in_->draws, routing_);
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    Stopwatch watch;
    if (naive_) {
      naive_->route(in_->context, in_->draws.logits(draw_), cell_.router, routing_);
      stages_[0].value = watch.lap_ms();
      make_plan_with("sort", in_->context, routing_, in_->options, plan_);
    } else {
      const Fusion fusion{.counts = &counts_};
      route_fused(in_->context, strategy_, in_->draws.input(draw_), cell_.router, fusion, routing_);
      stages_[0].value = watch.lap_ms();
      make_plan_counted(in_->context, routing_, counts_, in_->options, plan_);
    }
    stages_[1].value = watch.lap_ms();
  }

  std::span<const Stage> stages() const override { return stages_; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(naive_ ? Isa::portable : topk_variant(in_->context.isa()).isa);
    record["bytes"] = logits_bytes(cell_);
    add_limit(record, bandwidth_limit(logits_bytes(cell_), ceilings.read_bw));
    add_load(record, in_->draws.routing(0), in_->plans.of_draw[0]);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Strategy strategy_;
  std::optional<NaiveTopk> naive_;
  Routing routing_;
  AssignmentCounts counts_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 2> stages_ = {Stage{"t_select_ms"}, Stage{"t_plan_ms"}};
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double planned = selection_bytes(load.assignments) + load.rows * sizeof(std::int32_t);
  return {.shared_bytes = routing_bytes(cell, load),
          .own_bytes = logits_bytes(cell) + selection_bytes(load.assignments) + planned,
          .flops = 0,
          .touched_bytes = logits_bytes(cell)};
}

constexpr std::string_view kNotApplicable[] = {"dtype", "weights",    "hidden",
                                               "ffn",   "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = cost, .prepare = share<Inputs, SelectPlanSubject>, .not_applicable = kNotApplicable};

}  // namespace

Target select_plan_target() {
  return make_target<kMeasurement>("select_plan", "logits to plan: selection, then its plan",
                                   {"fused_select", "naive_topk"});
}

}  // namespace switchyard
