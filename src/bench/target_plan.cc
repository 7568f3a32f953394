// The plan alone: where each assignment's row is. No row moves.

#include "bench/device_subject.h"
#include "bench/dispatch_inputs.h"
#include "bench/oracle.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "plan/plan_impl.h"

namespace switchyard {
namespace {

/// Experts are read; of each assignment row and weight are written, and the token of each row.
double plan_bytes(double assignments, double rows) {
  return assignments * (sizeof(std::int32_t) + sizeof(float)) * 2 + rows * sizeof(std::int32_t);
}

void describe_plan(Record& record, const DispatchInputs& in, const Cell& cell,
                   const Ceilings& ceilings) {
  record["deterministic"] = plan_is_deterministic(cell.impl);
  const double bytes =
      plan_bytes(mean_assignments(in.draws),
                 in.plans.mean([](const DispatchPlan& plan) { return plan.num_rows(); }));
  record["bytes"] = bytes;
  add_limit(record, bandwidth_limit(bytes, ceilings.copy_bw));
  add_load(record, in.draws.routing(0), in.plans.of_draw[0]);
}

class PlanSubject final : public Subject {
 public:
  PlanSubject(std::shared_ptr<const DispatchInputs> in, const Cell& cell)
      : in_(std::move(in)), cell_(cell) {}

  Check check() override {
    prepare(0);
    run();
    check_plan(in_->draws.routing(0), in_->options, plan_, cell_.impl);
    return {};
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    make_plan_with(cell_.impl, in_->context, in_->draws.routing(draw_), in_->options, plan_);
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(Isa::portable);
    describe_plan(record, *in_, cell_, ceilings);
  }

 private:
  std::shared_ptr<const DispatchInputs> in_;
  Cell cell_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
};

/// On a device, after a route there, which has counted: as in a layer. Assignments of a trace come
/// from the host and are counted first.
class DevicePlanSubject final : public DeviceSubject {
 public:
  DevicePlanSubject(std::shared_ptr<const DispatchInputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws), in_(std::move(in)), cell_(cell) {
    if (draws().has_logits() && routes_on_device(strategy_of(cell))) {
      routings_ = routed_on_device();
    } else {
      routings_ = device_routings(context(), draws());
    }
    plans_.resize(routings_.size());
    const auto plan = [this](std::int64_t d) {
      const auto i = static_cast<std::size_t>(d);
      make_plan(context(), routings_[i], in_->options, plans_[i]);
    };
    set_work(plan, true);
  }

  Check check() override {
    prepare(0);
    run();
    Routing routing;
    copy(context(), routings_[0], routing);
    DispatchPlan plan;
    copy(context(), plans_[0], plan);
    check_plan(routing, in_->options, plan);
    return {};
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    describe_plan(record, *in_, cell_, ceilings);
  }

 private:
  std::vector<DeviceRouting> routed_on_device() {
    const std::vector<DeviceMatrix> logits = device_logits(context(), draws());
    std::vector<DeviceRouting> routings(logits.size());
    for (std::size_t d = 0; d < logits.size(); ++d) {
      const RouterInput input{.logits = logits[d].view(), .bias = {}, .token_ids = {}};
      route(context(), strategy_of(cell_), input, cell_.router, routings[d]);
    }
    synchronize(context());  // before the logits go
    return routings;
  }

  std::shared_ptr<const DispatchInputs> in_;
  Cell cell_;
  std::vector<DeviceRouting> routings_;
  std::vector<DevicePlan> plans_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double bytes = plan_bytes(load.assignments, load.rows);
  return {.shared_bytes = routing_bytes(cell, load),
          .own_bytes = bytes,
          .flops = 0,
          .touched_bytes = bytes};
}

constexpr std::string_view kNotApplicable[] = {"dtype", "weights",    "hidden",
                                               "ffn",   "activation", "gated"};
constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = share<DispatchInputs, PlanSubject>,
                                      .prepare_on_device = share<DispatchInputs, DevicePlanSubject>,
                                      .not_applicable = kNotApplicable};

}  // namespace

Target plan_target() {
  const auto all = plan_implementations();
  return make_target<kMeasurement>("plan", "where each assignment's row is",
                                   {all.begin(), all.end()}, {"counting"});
}

}  // namespace switchyard
