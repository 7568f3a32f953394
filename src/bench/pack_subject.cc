#include "bench/pack_subject.h"

#include "bench/oracle.h"
#include "bench/permute.h"
#include "bench/traffic.h"
#include "bench/work.h"
#include "pack/pack_impl.h"
#include "plan/plan_impl.h"

namespace switchyard {
namespace {

void describe_rows(Record& record, const PackInputs& in, const Cell& cell,
                   const Ceilings& ceilings) {
  record["deterministic"] = plan_is_deterministic(cell.impl);
  const double bytes = packed_bytes(cell, in.plans);
  record["bytes"] = bytes;
  record["bytes_moved"] = moved_by_pack(cell, in.plans, !permute_plans_first(cell.impl));
  record["bytes_per_token_strict"] = strict_bytes_per_token(cell, in.plans) / 2;
  add_limit(record, rows_limit(bytes, written_bytes(cell, in.plans), ceilings));
  add_load(record, in.draws.routing(0), in.plans.of_draw[0]);
}

}  // namespace

PackInputs::PackInputs(Context& c, const Cell& cell, const RoutingSource& source)
    : DispatchInputs(c, cell, source),
      x(normal_matrix(c, cell.dtype, cell.tokens, cell.hidden, cell.seed, 0)) {}

PackSubject::PackSubject(std::shared_ptr<const PackInputs> in, const Cell& cell)
    : in_(std::move(in)), cell_(cell), rows_(cell.dtype, in_->plans.max_rows, cell.hidden) {}

Check PackSubject::check() {
  rows_.poison();
  prepare(0);
  run();
  return check_packed(in_->draws.routing(0), in_->options, plan_, in_->x.view(),
                      rows_.first(plan_.num_rows()), cell_.impl);
}

void PackSubject::run() {
  const PermuteTimes times = permute(cell_.impl, in_->context, in_->draws.routing(draw_),
                                     in_->options, in_->x.view(), plan_, rows_.view());
  stages_[0].value = times.plan_ms;
  stages_[1].value = times.pack_ms;
}

std::span<const Stage> PackSubject::stages() const {
  return std::span(stages_).subspan(permute_plans_first(cell_.impl) ? 0 : 1);
}

void PackSubject::describe(Record& record, const Ceilings& ceilings) const {
  record["isa"] = name_of(pack_isa(in_->context));
  describe_rows(record, *in_, cell_, ceilings);
}

DevicePackSubject::DevicePackSubject(std::shared_ptr<const PackInputs> in, const Cell& cell)
    : DeviceSubject(in->context, in->draws),
      in_(std::move(in)),
      cell_(cell),
      x_(context(), in_->x.view()),
      routings_(device_routings(context(), draws())),
      plans_(make_device_plans(context(), routings_, in_->options)),
      rows_(context(), cell.dtype, max_rows(plans_), cell.hidden) {
  const auto plan = [this](std::int64_t d) {
    const auto i = static_cast<std::size_t>(d);
    make_plan(context(), routings_[i], in_->options, plans_[i]);
  };
  const auto copy_rows = [this](std::int64_t d) {
    pack(context(), plans_[static_cast<std::size_t>(d)], x_.view(), rows_.view());
  };
  set_parts({{"t_plan_ms", plan}, {"t_pack_ms", copy_rows}}, true);
}

Check DevicePackSubject::check() {
  prepare(0);
  rows_.poison(context());
  run();
  DispatchPlan plan;
  copy(context(), plans_[0], plan);
  const Matrix rows = rows_.fetch(context(), plan.num_rows());
  return check_packed(draws().routing(0), in_->options, plan, in_->x.view(), rows.view());
}

void DevicePackSubject::describe(Record& record, const Ceilings& ceilings) const {
  describe_device(record, ceilings);
  describe_rows(record, *in_, cell_, ceilings);
}

Cost pack_cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = row_bytes(cell, tokens) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, load.rows),
          .flops = 0,
          .touched_bytes = row_bytes(cell, tokens + load.rows)};
}

}  // namespace switchyard
