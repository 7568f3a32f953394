// Selection alone: logits to experts and weights.

#include "bench/draws.h"
#include "bench/naive_topk.h"
#include "bench/oracle.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "topk/topk.h"

namespace switchyard {
namespace {

struct Inputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : context(c), draws(c, cell, source, num_draws(cell)) {
    require_logits(cell, draws);
  }

  Context& context;
  Draws draws;
};

class TopkSubject final : public Subject {
 public:
  TopkSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)), cell_(cell), strategy_(strategy_of(cell)) {
    if (cell_.impl == "fused_select") return;
    require_topk_softmax(cell_);
    naive_.emplace(in_->context, cell.tokens, cell.experts);
  }

  Check check() override {
    prepare(0);
    run();
    return check_routing(cell_, in_->draws, routing_);
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    if (naive_) {
      naive_->route(in_->context, in_->draws.logits(draw_), cell_.router, routing_);
    } else {
      route(in_->context, strategy_, in_->draws.input(draw_), cell_.router, routing_);
    }
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(naive_ ? Isa::portable : topk_variant(in_->context.isa()).isa);
    const double bytes = logits_bytes(cell_) + selection_bytes(mean_assignments(in_->draws));
    record["bytes"] = bytes;
    add_limit(record, bandwidth_limit(bytes, ceilings.read_bw));
    DispatchPlan plan;
    make_plan(in_->context, in_->draws.routing(0), {}, plan);
    add_load(record, in_->draws.routing(0), plan);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Strategy strategy_;
  std::optional<NaiveTopk> naive_;
  Routing routing_;
  std::int64_t draw_ = 0;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double bytes = logits_bytes(cell) + selection_bytes(load.assignments);
  return {.shared_bytes = routing_bytes(cell, load),
          .own_bytes = bytes,
          .flops = 0,
          .touched_bytes = bytes};
}

constexpr std::string_view kNotApplicable[] = {
    "layout",          "dtype",       "weights",     "hidden",     "ffn",
    "capacity_factor", "drop_policy", "renormalise", "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = cost, .prepare = share<Inputs, TopkSubject>, .not_applicable = kNotApplicable};

}  // namespace

Target topk_target() {
  return make_target<kMeasurement>("topk", "logits to experts and weights",
                                   {"fused_select", "partial_sort"});
}

}  // namespace switchyard
