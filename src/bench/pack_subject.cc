#include "bench/pack_subject.h"

#include "bench/oracle.h"
#include "bench/permute.h"
#include "bench/traffic.h"
#include "bench/work.h"
#include "pack/pack_impl.h"
#include "plan/plan_impl.h"

namespace switchyard {

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
  record["deterministic"] = plan_is_deterministic(cell_.impl);
  const double bytes = packed_bytes(cell_, in_->plans);
  record["bytes"] = bytes;
  record["bytes_moved"] = moved_by_pack(cell_, in_->plans, !permute_plans_first(cell_.impl));
  record["bytes_per_token_strict"] = strict_bytes_per_token(cell_, in_->plans) / 2;
  add_limit(record, bandwidth_limit(bytes, ceilings.rows_bw()));
  add_load(record, in_->draws.routing(0), in_->plans.of_draw[0]);
}

Cost pack_cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = row_bytes(cell, tokens) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, load.rows),
          .flops = 0,
          .touched_bytes = row_bytes(cell, tokens + load.rows)};
}

}  // namespace switchyard
