// The way in: plan, then token rows to expert rows. The implementations differ in how the plan is
// computed; all give the same plan.

#include <array>

#include "bench/dispatch_inputs.h"
#include "bench/measure.h"
#include "bench/oracle.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "pack/pack_impl.h"
#include "plan/plan_impl.h"
#include "switchyard/pack.h"

namespace switchyard {
namespace {

struct Inputs : DispatchInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : DispatchInputs(c, cell, source),
        x(normal_matrix(c, cell.dtype, cell.tokens, cell.hidden, cell.seed, 0)) {}

  Matrix x;
};

class PackSubject final : public Subject {
 public:
  PackSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)), cell_(cell), rows_(cell.dtype, in_->plans.max_rows, cell.hidden) {}

  Check check() override {
    rows_.poison();
    prepare(0);
    run();
    return check_packed(in_->draws.routing(0), in_->options, plan_, in_->x.view(),
                        rows_.first(plan_.num_rows()));
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    Stopwatch watch;
    make_plan_with(cell_.impl, in_->context, in_->draws.routing(draw_), in_->options, plan_);
    stages_[0].value = watch.lap_ms();
    pack(in_->context, plan_, in_->x.view(), rows_.first(plan_.num_rows()));
    stages_[1].value = watch.lap_ms();
  }

  std::span<const Stage> stages() const override { return stages_; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(pack_isa(in_->context));
    const double bytes = packed_bytes(cell_, in_->plans);
    record["bytes"] = bytes;
    record["bytes_per_token_strict"] = strict_bytes_per_token(cell_) / 2;
    add_limit(record, bandwidth_limit(bytes, ceilings.gather_bw));
    add_load(record, in_->draws.routing(0), in_->plans.of_draw[0]);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Matrix rows_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 2> stages_ = {Stage{"t_plan_ms"}, Stage{"t_pack_ms"}};
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = row_bytes(cell, tokens) + routing_bytes(cell),
          .own_bytes = row_bytes(cell, load.rows),
          .flops = 0,
          .touched_bytes = row_bytes(cell, tokens + load.rows)};
}

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = cost, .prepare = share<Inputs, PackSubject>, .not_applicable = kNotApplicable};

}  // namespace

Target pack_target() {
  const auto names = plan_implementations();
  return make_target<kMeasurement>("pack", "plan, then token rows to expert rows",
                                   {names.begin(), names.end()});
}

}  // namespace switchyard
