// The grouped FFN alone, on rows that are already packed.

#include "bench/device_subject.h"
#include "bench/expert_inputs.h"
#include "bench/target_list.h"
#include "bench/traffic.h"
#include "bench/weight_cache.h"
#include "bench/work.h"
#include "layer/layer_reference.h"

namespace switchyard {
namespace {

struct Inputs : DispatchInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source, WeightCache& weights)
      : DispatchInputs(c, cell, source),
        cache(weights),
        raw(weights.raw(c, cell)),
        in(normal_matrix(c, cell.dtype, cell.layout == Layout::fused ? cell.tokens : plans.max_rows,
                         cell.hidden, cell.seed, 0)) {
    const DispatchPlan& plan = plans.of_draw[0];
    check_plan(draws.routing(0), options, plan);
    const std::int64_t active = std::max<std::int64_t>(1, active_experts(plan));
    checked_rows = covering_rows(
        plan, std::min<std::int64_t>(4, affordable_sample(expert_flops(cell, 1) / 2) / active + 1),
        cell.seed);
  }

  /// What the experts must make of draw 0, on `checked_rows`.
  const std::vector<double>& reference_of(const Cell& cell) {
    return reference.of(cell, [&] {
      return raw->reference(context, cell.impl, in.view(),
                            inputs_of_rows(plans.of_draw[0], checked_rows));
    });
  }

  WeightCache& cache;
  std::shared_ptr<const RawExperts> raw;
  Matrix in;
  std::vector<std::int64_t> checked_rows;  ///< of every active expert some
  ExpertReference reference;
};

void describe_products(Record& record, const Inputs& in, const Cell& cell, const Ceilings& ceilings,
                       double peak) {
  const double kept = in.plans.mean(kept_assignments);
  const double in_rows = cell.layout == Layout::fused ? in.plans.mean(kept_tokens) : kept;
  const double weight_bytes = expert_bytes(cell, in.plans.mean(active_experts));
  const double flops = expert_flops(cell, kept);
  const double bytes = weight_bytes + row_bytes(cell, in_rows + kept);
  record["flops"] = flops;
  record["bytes"] = bytes;
  record["bytes_moved"] = moved_by_experts(cell, in.plans);
  record["weight_bytes"] = weight_bytes;
  add_limit(record, limit_of(flops, peak, bytes, ceilings.read_bw));
  add_load(record, in.draws.routing(0), in.plans.of_draw[0]);
}

class ExpertsSubject final : public Subject {
 public:
  ExpertsSubject(std::shared_ptr<Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        experts_(in_->cache.experts(in_->context, cell)),
        out_(cell.dtype, in_->plans.max_rows, cell.hidden) {}

  Check check() override {
    out_.poison();
    prepare(0);
    run();
    return {.rel_err = relative_error(out_.view(), in_->reference_of(cell_), in_->checked_rows),
            .tol = expert_tolerance(cell_)};
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    const DispatchPlan& plan = in_->plans.of_draw[static_cast<std::size_t>(draw_)];
    const std::int64_t rows = plan.num_rows();
    experts_->forward(in_->context, plan,
                      cell_.layout == Layout::fused ? in_->in.view() : in_->in.first(rows),
                      out_.first(rows));
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    add_kernel(record, *experts_);
    describe_products(record, *in_, cell_, ceilings,
                      peak_of(ceilings, experts_->isa(), multiplied_weights(cell_)));
  }

 private:
  std::shared_ptr<Inputs> in_;
  Cell cell_;
  std::shared_ptr<Experts> experts_;
  Matrix out_;
  std::int64_t draw_ = 0;
};

class DeviceExpertsSubject final : public DeviceSubject {
 public:
  DeviceExpertsSubject(std::shared_ptr<Inputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws),
        in_(std::move(in)),
        cell_(cell),
        experts_(in_->cache.experts(context(), cell)),
        x_(context(), in_->in.view()),
        out_(context(), cell.dtype, in_->plans.max_rows, cell.hidden),
        plans_(device_plans(context(), in_->plans)) {
    const auto multiply = [this](std::int64_t d) {
      experts_->forward(context(), plans_[static_cast<std::size_t>(d)], x_.view(), out_.view());
    };
    set_work(multiply, device_experts_are_captured(cell));
  }

  Check check() override {
    prepare(0);
    out_.poison(context());
    run();
    const Matrix out = out_.fetch(context(), in_->plans.of_draw[0].num_rows());
    return {.rel_err = relative_error(out.view(), in_->reference_of(cell_), in_->checked_rows),
            .tol = expert_tolerance(cell_)};
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    add_kernel(record, *experts_);
    describe_products(record, *in_, cell_, ceilings, device_peak(context(), ceilings, cell_.dtype));
  }

 private:
  std::shared_ptr<Inputs> in_;
  Cell cell_;
  std::shared_ptr<Experts> experts_;
  DeviceMatrix x_, out_;
  std::vector<DevicePlan> plans_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  return {.shared_bytes =
              raw_expert_bytes(cell) + row_bytes(cell, load.rows) + routing_bytes(cell, load),
          .own_bytes = implementation_bytes(cell, load) + row_bytes(cell, load.rows),
          .flops = expert_flops(cell, load.kept),
          .touched_bytes = expert_bytes(cell, load.active) + row_bytes(cell, 2 * load.kept)};
}

constexpr Measurement kMeasurement = {
    .cost = cost,
    .prepare = share_with_experts<Inputs, ExpertsSubject>,
    .prepare_on_device = share_with_experts<Inputs, DeviceExpertsSubject>,
    .not_applicable = {},
    .has_experts = true};

}  // namespace

Target experts_target() {
  return make_target<kMeasurement>("experts", "the experts' FFNs on packed rows",
                                   expert_implementations_ours_first(),
                                   expert_implementations_ours_first(Device::cuda));
}

}  // namespace switchyard
