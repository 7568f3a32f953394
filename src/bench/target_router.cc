// All that precedes the experts: logits, select, plan and pack. See router_inputs.h for what the
// routing source makes it run.

#include <array>
#include <cstring>
#include <optional>

#include "base/context.h"
#include "bench/naive_topk.h"
#include "bench/oracle.h"
#include "bench/router_inputs.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "gemm/dense.h"
#include "gemm/kernel.h"
#include "plan/plan_impl.h"
#include "switchyard/pack.h"
#include "topk/topk.h"

namespace switchyard {
namespace {

struct Inputs : RouterInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : RouterInputs(c, cell, source), context(c) {
    require_logits(cell, draws);
  }

  Context& context;
};

/// One memcpy per row, padding rows zeroed.
void gather_rows(Context& context, const DispatchPlan& plan, ConstMatrixView x, MatrixView rows) {
  const std::size_t bytes = static_cast<std::size_t>(x.cols) * size_of(x.dtype);
  pool_of(context).for_ranges(rows.rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int32_t token = plan.token_of_row[static_cast<std::size_t>(r)];
      if (token < 0) {
        std::memset(rows.row(r), 0, bytes);
      } else {
        std::memcpy(rows.row(r), x.row(token), bytes);
      }
    }
  });
}

class RouterSubject final : public Subject {
 public:
  RouterSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        strategy_(strategy_of(cell)),
        logits_(DType::f32, cell.tokens, cell.experts),
        rows_(cell.dtype, in_->plans.max_rows, cell.hidden) {
    if (in_->has_router) product_.emplace(in_->context, in_->router.view(), cell.dtype);
    if (cell.impl == "fused_select") return;
    require_topk_softmax(cell);
    naive_.emplace(in_->context, cell.tokens, cell.experts);
  }

  Check check() override {
    rows_.poison();
    prepare(0);
    run();
    if (product_) check_logits(in_->x_of(0), in_->router.view(), logits_.view(), cell_.seed);
    const Check routed = check_routing(cell_, in_->draws, routing_);
    if (!(routed.rel_err <= routed.tol)) return routed;
    const Check packed =
        check_packed(routing_, in_->options, plan_, in_->x_of(0), rows_.first(plan_.num_rows()));
    return packed.rel_err > packed.tol ? packed : routed;
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    Stopwatch watch;
    ConstMatrixView logits = in_->draws.logits(draw_);
    if (product_) {
      product_->run(in_->context, in_->x_of(draw_), logits_.view());
      logits = logits_.view();
    }
    const double logit_ms = watch.lap_ms();
    select(logits);
    const double select_ms = watch.lap_ms();
    plan_and_pack();
    const double pack_ms = watch.lap_ms();
    stages_ = {Stage{"t_select_ms", select_ms}, Stage{"t_pack_ms", pack_ms},
               Stage{"t_route_ms", (product_ ? logit_ms : 0) + select_ms + pack_ms},
               Stage{"t_logit_ms", logit_ms}};
  }

  std::span<const Stage> stages() const override {
    return {stages_.data(), product_ ? stages_.size() : stages_.size() - 1};
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(naive_ ? Isa::portable : topk_variant(in_->context.isa()).isa);
    double bytes = selection_bytes(mean_assignments(in_->draws)) + packed_bytes(cell_, in_->plans);
    double flops = 0;
    if (product_) {
      flops = router_flops(cell_);
      bytes += row_bytes(cell_, cell_.experts);
      record["flops"] = flops;
    } else {
      bytes += logits_bytes(cell_);
    }
    record["bytes"] = bytes;
    const Isa isa = gemm::find_kernel(in_->context.isa(), cell_.dtype, cell_.dtype).isa;
    add_limit(record,
              work_limit(flops, peak_of(ceilings, name_of(isa)), bytes, ceilings.gather_bw));
    add_load(record, in_->draws.routing(0), in_->plans.of_draw[0]);
  }

 private:
  void select(ConstMatrixView logits) {
    if (naive_) return naive_->route(in_->context, logits, cell_.router, routing_);
    const RouterInput input = {.logits = logits, .bias = {}, .token_ids = {}};
    route(in_->context, strategy_, input, cell_.router, routing_);
  }

  void plan_and_pack() {
    if (naive_) {
      make_plan_with("sort", in_->context, routing_, in_->options, plan_);
      return gather_rows(in_->context, plan_, in_->x_of(draw_), rows_.first(plan_.num_rows()));
    }
    make_plan(in_->context, routing_, in_->options, plan_);
    pack(in_->context, plan_, in_->x_of(draw_), rows_.first(plan_.num_rows()));
  }

  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Strategy strategy_;
  std::optional<gemm::DenseProduct> product_;
  std::optional<NaiveTopk> naive_;
  Matrix logits_;
  Matrix rows_;
  Routing routing_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 4> stages_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = router_input_bytes(cell) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, load.rows) + 2 * logits_bytes(cell) +
                       selection_bytes(load.assignments),
          .flops = has_router(cell) ? router_flops(cell) : 0,
          .touched_bytes = selection_bytes(load.assignments) + row_bytes(cell, tokens + load.rows)};
}

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = cost, .prepare = share<Inputs, RouterSubject>, .not_applicable = kNotApplicable};

}  // namespace

Target router_target() {
  return make_target<kMeasurement>("router", "logits, select, plan and pack",
                                   {"fused_select", "naive_topk"});
}

}  // namespace switchyard
