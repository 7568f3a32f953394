// Selection alone: logits to experts and weights.

#include "bench/device_subject.h"
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

void describe_selection(Record& record, const Inputs& in, const Cell& cell,
                        const Ceilings& ceilings) {
  const double bytes = logits_bytes(cell) + selection_bytes(mean_assignments(in.draws));
  record["bytes"] = bytes;
  add_limit(record, bandwidth_limit(bytes, ceilings.read_bw));
  DispatchPlan plan;
  make_plan(in.context, in.draws.routing(0), {}, plan);
  add_load(record, in.draws.routing(0), plan);
}

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
    describe_selection(record, *in_, cell_, ceilings);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Strategy strategy_;
  std::optional<NaiveTopk> naive_;
  Routing routing_;
  std::int64_t draw_ = 0;
};

class DeviceTopkSubject final : public DeviceSubject {
 public:
  DeviceTopkSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws),
        in_(std::move(in)),
        cell_(cell),
        strategy_(strategy_of(cell)),
        logits_(device_logits(context(), draws())),
        routings_(logits_.size()) {
    const auto select = [this](std::int64_t d) {
      const auto i = static_cast<std::size_t>(d);
      const RouterInput input{.logits = logits_[i].view(), .bias = {}, .token_ids = {}};
      route(context(), strategy_, input, cell_.router, routings_[i]);
    };
    set_work(select, true);
  }

  Check check() override {
    prepare(0);
    run();
    Routing routing;
    copy(context(), routings_[0], routing);
    return check_routing(cell_, draws(), routing);
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    describe_selection(record, *in_, cell_, ceilings);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Strategy strategy_;
  std::vector<DeviceMatrix> logits_;
  std::vector<DeviceRouting> routings_;
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
constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = share<Inputs, TopkSubject>,
                                      .prepare_on_device = share<Inputs, DeviceTopkSubject>,
                                      .not_applicable = kNotApplicable};

}  // namespace

Target topk_target() {
  return make_target<kMeasurement>("topk", "logits to experts and weights",
                                   {"fused_select", "partial_sort"}, {"fused_select"});
}

}  // namespace switchyard
