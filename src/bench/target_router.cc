// All that precedes the experts: logits, select, plan and pack. See router_inputs.h for what the
// routing source makes it run.
//   fused_select   one pass over the logits that selects, weighs, counts and ranks; a plan from the
//                  counts; pack
//   fused_logits   the same with the logits' product inside the pass, block by block
//   naive_topk     softmax, top-k, sort and gather as passes of their own
//   masked_matmul  no permutation: selection into a dense mask [T, E] of weights
//   sinkhorn       as fused_select, but by the strategy sinkhorn whatever --strategy says

#include <array>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/context.h"
#include "bench/device_subject.h"
#include "bench/naive_topk.h"
#include "bench/oracle.h"
#include "bench/router_inputs.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "gemm/kernel.h"
#include "layer/device_router.h"
#include "layer/router.h"
#include "plan/plan_impl.h"
#include "routing/fusion.h"
#include "switchyard/pack.h"
#include "topk/topk.h"

namespace switchyard {
namespace {

enum class Way { fused_select, fused_logits, naive_topk, masked_matmul, sinkhorn };

constexpr std::array<Named<Way>, 5> kWays = {{
    {Way::fused_select, "fused_select"},
    {Way::fused_logits, "fused_logits"},
    {Way::naive_topk, "naive_topk"},
    {Way::masked_matmul, "masked_matmul"},
    {Way::sinkhorn, "sinkhorn"},
}};

struct Inputs : RouterInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : RouterInputs(c, cell, source), context(c), strategy(cell.strategy) {
    require_logits(cell, draws);
  }

  Context& context;
  std::string strategy;  ///< of the draws
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

/// mask[t, e] = the weight of expert e for token t, 0 where it was not chosen.
void fill_mask(Context& context, const Routing& routing, MatrixView mask) {
  pool_of(context).for_ranges(mask.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      auto* row = reinterpret_cast<float*>(mask.row(t));
      std::fill_n(row, mask.cols, 0.0f);
      const auto i = static_cast<std::size_t>(t);
      for (std::int64_t a = routing.token_begin[i]; a < routing.token_begin[i + 1]; ++a) {
        row[routing.expert[static_cast<std::size_t>(a)]] =
            routing.weight[static_cast<std::size_t>(a)];
      }
    }
  });
}

/// Every element of the mask is a weight of the routing or 0.
Check check_mask(const Routing& routing, ConstMatrixView mask) {
  std::vector<float> expected(static_cast<std::size_t>(mask.cols));
  for (std::int64_t t = 0; t < mask.rows; ++t) {
    std::fill(expected.begin(), expected.end(), 0.0f);
    const auto i = static_cast<std::size_t>(t);
    for (std::int64_t a = routing.token_begin[i]; a < routing.token_begin[i + 1]; ++a) {
      const auto assignment = static_cast<std::size_t>(a);
      expected[static_cast<std::size_t>(routing.expert[assignment])] = routing.weight[assignment];
    }
    if (std::memcmp(mask.row(t), expected.data(), expected.size() * sizeof(float)) != 0) {
      return {.rel_err = 1, .tol = 0};
    }
  }
  return {};
}

/// Cells that an implementation has no way of running, each with the reason.
void require_possible(Way way, const Cell& cell, const Strategy& strategy) {
  if (way == Way::naive_topk) require_topk_softmax(cell);
  if (way == Way::masked_matmul) {
    require(cell.experts <= kMaxMaskedExperts,
            "implementation masked_matmul with {} experts: expected at most {}, because behind a "
            "dense mask every expert multiplies every token, {} times the useful work",
            cell.experts, kMaxMaskedExperts, cell.experts / cell.top_k);
    require(cell.capacity_factor == 0,
            "implementation masked_matmul with capacity factor {}: expected 0, since a mask has "
            "room for every assignment",
            cell.capacity_factor);
  }
  if (way == Way::fused_logits) {
    require(has_router(cell) && cell.router_arch == RouterArch::linear,
            "implementation fused_logits with --router {} and --routing {}: expected a linear "
            "router, and uniform, gate or skew, where logits are its product",
            name_of(cell.router_arch), cell.routing);
    require(
        strategy.fuses,
        "implementation fused_logits with strategy {}: expected one that chooses from a token's "
        "logits alone",
        cell.strategy);
  }
}

void describe_way(Record& record, const Inputs& in, const Cell& cell, const Draws& draws,
                  const Plans& plans, bool is_masked, const Ceilings& ceilings, double peak) {
  double bytes = is_masked ? logits_bytes(cell)  // the mask
                           : selection_bytes(mean_assignments(draws)) + packed_bytes(cell, plans);
  double flops = 0;
  if (in.has_router) {
    flops = router_flops(cell);
    bytes += router_bytes(cell);
    if (is_masked) bytes += row_bytes(cell, static_cast<double>(cell.tokens));
    record["flops"] = flops;
  } else {
    bytes += logits_bytes(cell);
  }
  record["bytes"] = bytes;
  add_limit(record, limit_of(flops, peak, bytes, ceilings.gather_bw));
  add_load(record, draws.routing(0), plans.of_draw[0]);
  add_losses(record, in.context, cell, draws, 0);
}

class RouterSubject final : public Subject {
 public:
  RouterSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        way_(value_in(kWays, "router implementation", cell.impl)),
        logits_(DType::f32, cell.tokens, cell.experts) {
    if (way_ == Way::sinkhorn) cell_.strategy = "sinkhorn";
    strategy_ = strategy_of(cell_);
    require_possible(way_, cell_, strategy_);
    if (cell_.strategy != in_->strategy) route_again();
    if (in_->has_router) router_.emplace(in_->context, in_->router.weights(), cell.dtype);
    if (way_ == Way::naive_topk) naive_.emplace(in_->context, cell.tokens, cell.experts);
    if (way_ == Way::masked_matmul) {
      mask_ = Matrix(DType::f32, cell.tokens, cell.experts);
    } else {
      rows_ = Matrix(cell.dtype, plans().max_rows, cell.hidden);
    }
  }

  Check check() override {
    Matrix& out = way_ == Way::masked_matmul ? mask_ : rows_;
    out.poison();
    prepare(0);
    run();
    if (router_) {
      check_logits(in_->context, in_->x_of(0), in_->router.weights(), logits_.view(), cell_.seed);
    }
    const Check routed = check_routing(cell_, draws(), routing_);
    if (!(routed.rel_err <= routed.tol)) return routed;
    const Check packed = check_out();
    return packed.rel_err > packed.tol ? packed : routed;
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    num_stages_ = 0;
    Stopwatch watch;
    double route_ms = 0;
    const auto end_of = [&](std::string_view field) {
      const double ms = watch.lap_ms();
      route_ms += ms;
      stages_[num_stages_++] = {field, ms};
    };
    if (router_ && way_ != Way::fused_logits) {
      router_->logits(in_->context, in_->x_of(draw_), logits_.view());
      end_of("t_logit_ms");
    }
    select(router_ ? ConstMatrixView(logits_.view()) : in_->draws.logits(draw_));
    end_of("t_select_ms");
    plan_and_pack();
    end_of("t_pack_ms");
    stages_[num_stages_++] = {"t_route_ms", route_ms};
  }

  std::span<const Stage> stages() const override { return {stages_.data(), num_stages_}; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(naive_ ? Isa::portable : topk_variant(in_->context.isa()).isa);
    const Isa isa = gemm::find_kernel(in_->context.isa(), cell_.dtype, cell_.dtype).isa;
    describe_way(record, *in_, cell_, draws(), plans(), way_ == Way::masked_matmul, ceilings,
                 peak_of(ceilings, name_of(isa), {cell_.dtype, {}}));
  }

 private:
  const Draws& draws() const { return own_draws_ ? *own_draws_ : in_->draws; }
  const Plans& plans() const { return own_plans_ ? *own_plans_ : in_->plans; }

  /// The draws' logits by another strategy.
  void route_again() {
    own_draws_.emplace(in_->context, cell_, in_->draws.count(),
                       [&](std::int64_t draw, MatrixView logits) {
                         std::memcpy(logits.data, in_->draws.logits(draw).data,
                                     static_cast<std::size_t>(logits_bytes(cell_)));
                       });
    own_plans_.emplace(in_->context, *own_draws_, in_->options);
  }

  void select(ConstMatrixView logits) {
    if (naive_) return naive_->route(in_->context, logits, cell_.router, routing_);
    const RouterInput input{.logits = logits, .bias = {}, .token_ids = {}};
    Fusion fusion;
    if (way_ != Way::masked_matmul) fusion.counts = &counts_;
    if (way_ == Way::fused_logits) {
      fusion.product = &*router_->impl().product;
      fusion.x = in_->x_of(draw_);
      fusion.logits = logits_.view();
    }
    route_fused(in_->context, strategy_, input, cell_.router, fusion, routing_);
  }

  void plan_and_pack() {
    const ConstMatrixView x = in_->x_of(draw_);
    switch (way_) {
      case Way::masked_matmul: return fill_mask(in_->context, routing_, mask_.view());
      case Way::naive_topk:
        make_plan_with("sort", in_->context, routing_, in_->options, plan_);
        return gather_rows(in_->context, plan_, x, rows_.first(plan_.num_rows()));
      default:
        make_plan_counted(in_->context, routing_, counts_, in_->options, plan_);
        return pack(in_->context, plan_, x, rows_.first(plan_.num_rows()));
    }
  }

  Check check_out() const {
    if (way_ == Way::masked_matmul) return check_mask(routing_, mask_.view());
    return check_packed(routing_, in_->options, plan_, in_->x_of(0), rows_.first(plan_.num_rows()));
  }

  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Way way_;
  Strategy strategy_;
  std::optional<Draws> own_draws_;  // where the strategy is not the group's
  std::optional<Plans> own_plans_;
  std::optional<Router> router_;
  std::optional<NaiveTopk> naive_;
  Matrix logits_, rows_, mask_;
  Routing routing_;
  AssignmentCounts counts_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 4> stages_;
  std::size_t num_stages_ = 0;
};

/// fused_select on a device.
class DeviceRouterSubject final : public DeviceSubject {
 public:
  DeviceRouterSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws),
        in_(std::move(in)),
        cell_(cell),
        strategy_(strategy_of(cell)),
        routings_(static_cast<std::size_t>(draws().count())),
        plans_(routings_.size()) {
    for (const Matrix& x : in_->x) x_.emplace_back(context(), x.view());
    std::vector<Part> parts;
    if (in_->has_router) {
      router_.emplace(context(), in_->router.weights(), cell.dtype);
      logits_.emplace_back(context(), DType::f32, cell.tokens, cell.experts);
      parts.push_back({"t_logit_ms",
                       [this](std::int64_t d) { router_->run(context(), x_of(d), logits_of(d)); }});
    } else {
      logits_ = device_logits(context(), draws());
    }
    parts.push_back({"t_select_ms", [this](std::int64_t d) { select(d); }});
    parts.push_back({"t_pack_ms", [this](std::int64_t d) { plan_and_pack(d); }});
    make_room(parts);
    set_parts(std::move(parts), true);
  }

  Check check() override {
    prepare(0);
    rows_.poison(context());
    run();
    const Matrix logits = logits_[0].fetch(context(), cell_.tokens);
    if (in_->has_router) {
      check_logits(context(), in_->x_of(0), in_->router.weights(), logits.view(), cell_.seed);
    }
    Routing routing;
    copy(context(), routings_[0], routing);
    const RouterInput input{.logits = logits.view(), .bias = {}, .token_ids = {}};
    const Check routed = check_routing(cell_, input, routing);
    if (!(routed.rel_err <= routed.tol)) return routed;
    DispatchPlan plan;
    copy(context(), plans_[0], plan);
    const Matrix rows = rows_.fetch(context(), plan.num_rows());
    const Check packed = check_packed(routing, in_->options, plan, in_->x_of(0), rows.view());
    return packed.rel_err > packed.tol ? packed : routed;
  }

  void run_stages() override {
    DeviceSubject::run_stages();
    stages_.push_back({"t_route_ms", ms_});
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    describe_way(record, *in_, cell_, in_->draws, in_->plans, false, ceilings,
                 device_peak(context(), ceilings, cell_.dtype));
  }

 private:
  /// Rows for the plans of all draws, which only a first run of the parts before can tell.
  void make_room(const std::vector<Part>& parts) {
    for (std::int64_t d = 0; d < draws().count(); ++d) {
      const auto i = static_cast<std::size_t>(d);
      for (std::size_t p = 0; p + 1 < parts.size(); ++p) parts[p].work(d);
      make_plan(context(), routings_[i], in_->options, plans_[i]);
    }
    rows_ = DeviceMatrix(context(), cell_.dtype, max_rows(plans_), cell_.hidden);
  }

  MatrixView x_of(std::int64_t d) const {
    return x_[in_->has_router ? static_cast<std::size_t>(d) : 0].view();
  }
  MatrixView logits_of(std::int64_t d) const {
    return logits_[in_->has_router ? 0 : static_cast<std::size_t>(d)].view();
  }

  void select(std::int64_t d) {
    const RouterInput input{.logits = logits_of(d), .bias = {}, .token_ids = {}};
    route(context(), strategy_, input, cell_.router, routings_[static_cast<std::size_t>(d)]);
  }

  void plan_and_pack(std::int64_t d) {
    DevicePlan& plan = plans_[static_cast<std::size_t>(d)];
    make_plan(context(), routings_[static_cast<std::size_t>(d)], in_->options, plan);
    pack(context(), plan, x_of(d), rows_.view());
  }

  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Strategy strategy_;
  std::optional<DeviceRouter> router_;
  std::vector<DeviceMatrix> x_, logits_;
  std::vector<DeviceRouting> routings_;
  std::vector<DevicePlan> plans_;
  DeviceMatrix rows_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  const bool is_routed_again = cell.impl == "sinkhorn";
  return {.shared_bytes = router_input_bytes(cell) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, load.rows) + 2 * logits_bytes(cell) +
                       selection_bytes(load.assignments) + router_bytes(cell) +
                       (is_routed_again ? routing_bytes(cell, load) : 0),
          .flops = has_router(cell) ? router_flops(cell) : 0,
          .touched_bytes = selection_bytes(load.assignments) + row_bytes(cell, tokens + load.rows)};
}

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = share<Inputs, RouterSubject>,
                                      .prepare_on_device = share<Inputs, DeviceRouterSubject>,
                                      .not_applicable = kNotApplicable,
                                      .has_router = true};

}  // namespace

Target router_target() {
  std::vector<std::string_view> names;
  for (const auto& way : kWays) names.push_back(way.name);
  return make_target<kMeasurement>("router", "logits, select, plan and pack", std::move(names),
                                   {"fused_select"});
}

}  // namespace switchyard
