// The capacity study: what a capacity factor drops under a strategy, a routing source and a drop
// policy, and what selection, plan, pack and combine then take.

#include <algorithm>
#include <array>

#include "bench/oracle.h"
#include "bench/pack_subject.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/traffic.h"
#include "bench/work.h"
#include "pack/pack_impl.h"
#include "switchyard/combine.h"
#include "switchyard/pack.h"

namespace switchyard {
namespace {

/// The least capacity factor at which no expert drops: its largest share of the assignments times
/// E.
double dropless_factor(const Routing& routing) {
  std::vector<std::int64_t> assigned(static_cast<std::size_t>(routing.num_experts));
  for (const std::int32_t e : routing.expert) ++assigned[static_cast<std::size_t>(e)];
  const auto all = static_cast<double>(std::max<std::int64_t>(1, routing.num_assignments()));
  return static_cast<double>(*std::max_element(assigned.begin(), assigned.end())) *
         routing.num_experts / all;
}

class CapacitySubject final : public Subject {
 public:
  CapacitySubject(std::shared_ptr<const PackInputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        strategy_(strategy_of(cell)),
        rows_(cell.dtype, in_->plans.max_rows, cell.hidden),
        out_(cell.dtype, cell.tokens, cell.hidden) {}

  Check check() override {
    rows_.poison();
    out_.poison();
    prepare(0);
    run();
    if (in_->draws.has_logits()) require_passed(check_routing(cell_, in_->draws, routing()));
    check_drops(routing(), in_->options, plan_);
    const MatrixView rows = rows_.first(plan_.num_rows());
    require_passed(check_packed(routing(), in_->options, plan_, in_->x.view(), rows));
    return check_combined(in_->context, routing(), plan_, rows, out_.view(), cell_.seed);
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    Stopwatch watch;
    if (in_->draws.has_logits()) {
      route(in_->context, strategy_, in_->draws.input(draw_), cell_.router, routing_);
    }
    const double select_ms = watch.lap_ms();
    make_plan(in_->context, routing(), in_->options, plan_);
    const double plan_ms = watch.lap_ms();
    const MatrixView rows = rows_.first(plan_.num_rows());
    pack(in_->context, plan_, in_->x.view(), rows);
    const double pack_ms = watch.lap_ms();
    combine(in_->context, plan_, rows, out_.view());
    stages_ = {Stage{"t_plan_ms", plan_ms}, Stage{"t_pack_ms", pack_ms},
               Stage{"t_combine_ms", watch.lap_ms()}, Stage{"t_select_ms", select_ms}};
  }

  std::span<const Stage> stages() const override {
    return {stages_.data(), in_->draws.has_logits() ? stages_.size() : stages_.size() - 1};
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(pack_isa(in_->context));
    const double select = selection_bytes(mean_assignments(in_->draws)) +
                          (in_->draws.has_logits() ? logits_bytes(cell_) : 0);
    const double in = packed_bytes(cell_, in_->plans);
    const double back = combined_bytes(cell_, in_->plans);
    record["bytes"] = select + in + back;
    record["bytes_moved"] = select + moved_by_pack(cell_, in_->plans) + back;
    record["bytes_per_token_strict"] = strict_bytes_per_token(cell_, in_->plans);
    Limit limit = rows_limit(in, written_bytes(cell_, in_->plans), ceilings);
    limit.memory_ms +=
        rows_limit(back, row_bytes(cell_, static_cast<double>(cell_.tokens)), ceilings).memory_ms;
    limit.memory_ms += bandwidth_limit(select, ceilings.read_bw).memory_ms;
    add_limit(record, limit);
    add_load(record, in_->draws.routing(0), in_->plans.of_draw[0]);
    record["dropless_capacity_factor"] = dropless_factor(in_->draws.routing(0));
  }

 private:
  const Routing& routing() const {
    return in_->draws.has_logits() ? routing_ : in_->draws.routing(draw_);
  }

  std::shared_ptr<const PackInputs> in_;
  Cell cell_;
  Strategy strategy_;
  Matrix rows_;
  Matrix out_;
  Routing routing_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 4> stages_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = row_bytes(cell, tokens) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, load.rows + tokens) + selection_bytes(load.assignments),
          .flops = 2 * load.kept * static_cast<double>(cell.hidden),
          .touched_bytes = selection_bytes(load.assignments) +
                           row_bytes(cell, 2 * tokens + load.rows + load.kept)};
}

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = cost, .prepare = share<PackInputs, CapacitySubject>, .not_applicable = kNotApplicable};

}  // namespace

Target capacity_target() {
  return make_target<kMeasurement>(
      "capacity", "select, plan, pack and combine, and what a capacity factor drops", {"counting"});
}

}  // namespace switchyard
