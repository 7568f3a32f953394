// Plan, pack and combine in a row: what a layer pays around its experts.

#include <array>

#include "bench/device_subject.h"
#include "bench/dispatch_inputs.h"
#include "bench/oracle.h"
#include "bench/permute.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/traffic.h"
#include "bench/work.h"
#include "pack/pack_impl.h"
#include "plan/plan_impl.h"
#include "switchyard/combine.h"

namespace switchyard {
namespace {

struct Inputs : DispatchInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : DispatchInputs(c, cell, source),
        x(normal_matrix(c, cell.dtype, cell.tokens, cell.hidden, cell.seed, 0)) {}

  Matrix x;
};

void describe_ways(Record& record, const Inputs& in, const Cell& cell, const Ceilings& ceilings) {
  record["deterministic"] = plan_is_deterministic(cell.impl);
  const double there = packed_bytes(cell, in.plans);
  const double back = combined_bytes(cell, in.plans);
  record["bytes"] = there + back;
  record["bytes_moved"] = moved_by_pack(cell, in.plans, !permute_plans_first(cell.impl)) + back;
  record["bytes_per_token_strict"] = strict_bytes_per_token(cell, in.plans);
  Limit limit = rows_limit(there, written_bytes(cell, in.plans), ceilings);
  limit.memory_ms +=
      rows_limit(back, row_bytes(cell, static_cast<double>(cell.tokens)), ceilings).memory_ms;
  add_limit(record, limit);
  add_load(record, in.draws.routing(0), in.plans.of_draw[0]);
}

class DispatchSubject final : public Subject {
 public:
  DispatchSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        rows_(cell.dtype, in_->plans.max_rows, cell.hidden),
        out_(cell.dtype, cell.tokens, cell.hidden) {}

  Check check() override {
    rows_.poison();
    out_.poison();
    prepare(0);
    run();
    const Routing& routing = in_->draws.routing(0);
    const Check packed = check_packed(routing, in_->options, plan_, in_->x.view(),
                                      rows_.first(plan_.num_rows()), cell_.impl);
    if (packed.rel_err > packed.tol) return packed;
    return check_combined(in_->context, routing, plan_, rows_.first(plan_.num_rows()), out_.view(),
                          cell_.seed);
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    const PermuteTimes times = permute(cell_.impl, in_->context, in_->draws.routing(draw_),
                                       in_->options, in_->x.view(), plan_, rows_.view());
    stages_[0].value = times.plan_ms;
    stages_[1].value = times.pack_ms;
    Stopwatch watch;
    combine(in_->context, plan_, rows_.first(plan_.num_rows()), out_.view());
    stages_[2].value = watch.lap_ms();
  }

  std::span<const Stage> stages() const override {
    return std::span(stages_).subspan(permute_plans_first(cell_.impl) ? 0 : 1);
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(pack_isa(in_->context));
    describe_ways(record, *in_, cell_, ceilings);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Matrix rows_;
  Matrix out_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 3> stages_ = {Stage{"t_plan_ms"}, Stage{"t_pack_ms"}, Stage{"t_combine_ms"}};
};

class DeviceDispatchSubject final : public DeviceSubject {
 public:
  DeviceDispatchSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws),
        in_(std::move(in)),
        cell_(cell),
        x_(context(), in_->x.view()),
        routings_(device_routings(context(), draws())),
        plans_(make_device_plans(context(), routings_, in_->options)),
        rows_(context(), cell.dtype, max_rows(plans_), cell.hidden),
        out_(context(), cell.dtype, cell.tokens, cell.hidden) {
    const auto plan = [this](std::int64_t d) {
      const auto i = static_cast<std::size_t>(d);
      make_plan(context(), routings_[i], in_->options, plans_[i]);
    };
    const auto copy_rows = [this](std::int64_t d) {
      pack(context(), plans_[static_cast<std::size_t>(d)], x_.view(), rows_.view());
    };
    const auto sum = [this](std::int64_t d) {
      combine(context(), plans_[static_cast<std::size_t>(d)], rows_.view(), out_.view());
    };
    set_parts({{"t_plan_ms", plan}, {"t_pack_ms", copy_rows}, {"t_combine_ms", sum}}, true);
  }

  Check check() override {
    prepare(0);
    rows_.poison(context());
    out_.poison(context());
    run();
    const Routing& routing = draws().routing(0);
    DispatchPlan plan;
    copy(context(), plans_[0], plan);
    const Matrix rows = rows_.fetch(context(), plan.num_rows());
    const Check packed = check_packed(routing, in_->options, plan, in_->x.view(), rows.view());
    if (packed.rel_err > packed.tol) return packed;
    const Matrix out = out_.fetch(context(), cell_.tokens);
    return check_combined(context(), routing, plan, rows.view(), out.view(), cell_.seed);
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    describe_ways(record, *in_, cell_, ceilings);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  DeviceMatrix x_;
  std::vector<DeviceRouting> routings_;
  std::vector<DevicePlan> plans_;
  DeviceMatrix rows_, out_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = row_bytes(cell, tokens) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, load.rows + tokens),
          .flops = 2 * load.kept * static_cast<double>(cell.hidden),
          .touched_bytes = row_bytes(cell, 2 * tokens + load.rows + load.kept)};
}

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = share<Inputs, DispatchSubject>,
                                      .prepare_on_device = share<Inputs, DeviceDispatchSubject>,
                                      .not_applicable = kNotApplicable};

}  // namespace

Target dispatch_target() {
  return make_target<kMeasurement>("dispatch", "plan, pack and combine, without experts",
                                   permute_implementations(), {"counting"});
}

}  // namespace switchyard
