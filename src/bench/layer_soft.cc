#include "bench/layer_soft.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/context.h"
#include "bench/expert_inputs.h"
#include "bench/stopwatch.h"
#include "bench/target_list.h"
#include "bench/weight_cache.h"
#include "bench/work.h"
#include "layer/layer_reference.h"
#include "routing/routing_reference.h"
#include "switchyard/layer.h"
#include "workload/gate.h"
#include "workload/tensors.h"

namespace switchyard {
namespace {

// Streams as in router_inputs.cc.
constexpr std::uint64_t kRouterStream = 16;
constexpr std::uint64_t kFirstTokenStream = 32;

std::int64_t num_slots(const Cell& cell) {
  return std::int64_t{cell.experts} * cell.router.slots_per_expert;
}

double slots_of(const Cell& cell) { return static_cast<double>(num_slots(cell)); }

struct Inputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource&, WeightCache& kept)
      : context(c), cache(kept), router(cell.dtype, num_slots(cell), cell.hidden) {
    const bool is_gate = cell.routing == "gate";
    require(is_gate || cell.routing == "uniform",
            "--routing {}: strategy {} needs a router's logits for its slots: expected uniform or "
            "gate",
            cell.routing, cell.strategy);
    require(cell.router_arch == RouterArch::linear,
            "--router {} with strategy {}: expected linear, which gives a logit to every slot",
            name_of(cell.router_arch), cell.strategy);
    for (std::int64_t d = 0; d < num_draws(cell); ++d) {
      const auto draw = static_cast<std::uint64_t>(d);
      const Matrix& of_draw = x.emplace_back(cell.dtype, cell.tokens, cell.hidden);
      if (is_gate) {
        fill_gate_hidden(c, of_draw.view(), cell.seed, draw);
      } else {
        fill_normal(c, of_draw.view(), cell.seed, kFirstTokenStream + draw, 1.0f);
      }
    }
    if (is_gate) {
      fill_gate_router(c, router.view(), cell.seed);
    } else {
      fill_normal(c, router.view(), cell.seed, kRouterStream,
                  1.0f / std::sqrt(static_cast<float>(cell.hidden)));
    }
    weights.router = router.view();
    raw = cache.raw(c, cell);
    weights.experts = raw->weights();
  }

  Context& context;
  WeightCache& cache;
  std::vector<Matrix> x;  ///< [T, H] of each draw
  Matrix router;          ///< [S, H]
  std::shared_ptr<const RawExperts> raw;
  LayerWeights weights;
};

double error_of(std::span<const float> values, std::span<const double> ref) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < ref.size(); ++i) {
    error += (values[i] - ref[i]) * (values[i] - ref[i]);
    norm += ref[i] * ref[i];
  }
  return std::sqrt(error / norm);
}

void store_row(MatrixView out, std::int64_t row, std::span<const double> values) {
  const auto store = [&](auto element) {
    auto* to = reinterpret_cast<decltype(element)*>(out.row(row));
    for (std::size_t j = 0; j < values.size(); ++j) {
      to[j] = from_float<decltype(element)>(static_cast<float>(values[j]));
    }
  };
  switch (out.dtype) {
    case DType::f32: store(float{}); break;
    case DType::bf16: store(bf16{}); break;
    case DType::f16: store(f16{}); break;
  }
}

/// The matrices against those of logits in double.
void check_soft_routing(const Cell& cell, const Inputs& in, const SoftRouting& routing) {
  const std::vector<double> exact = reference_logits(in.x[0].view(), in.router.view());
  const std::vector<float> logits(exact.begin(), exact.end());
  const auto ref =
      reference_route_soft(cell.strategy, matrix(logits.data(), cell.tokens, num_slots(cell)));
  const double error =
      std::max(error_of(routing.dispatch, ref.dispatch), error_of(routing.combine, ref.combine));
  // Of a weight: what its logit is off by, a sum of H terms in f32, and exp and a sum of its own.
  require_passed(
      {error, epsilon_of(DType::f32) * (64 + 4 * std::sqrt(static_cast<double>(cell.hidden)))});
}

Check check_output(const Cell& cell, const Inputs& in, const SoftRouting& routing,
                   ConstMatrixView out) {
  const std::int64_t slots = num_slots(cell);
  const Matrix stored(cell.dtype, slots, cell.hidden);
  std::vector<ExpertInput> inputs(static_cast<std::size_t>(slots));
  pool_of(in.context).for_each(slots, [&](std::int64_t s, int) {
    store_row(stored.view(), s, reference_slot(in.x[0].view(), routing, s));
    inputs[static_cast<std::size_t>(s)] = {s / cell.router.slots_per_expert, s};
  });
  const auto slot_rows = in.raw->reference(in.context, cell.impl, stored.view(), inputs);
  std::vector<std::int64_t> tokens;
  const std::int64_t count = std::min<std::int64_t>(cell.tokens, 64);
  for (std::int64_t i = 0; i < count; ++i) tokens.push_back(i * cell.tokens / count);
  const auto ref = reference_mixed(in.x[0].view(), routing, slot_rows, in.weights, tokens);
  const double depth = static_cast<double>(cell.tokens + slots);
  return {.rel_err = relative_error(out, ref, tokens),
          .tol = expert_tolerance(cell) + 2 * std::sqrt(depth) * epsilon_of(DType::f32)};
}

/// Router, two dense products with [T, S], experts on every slot.
double flops_of(const Cell& cell) {
  const double tokens = static_cast<double>(cell.tokens), hidden = static_cast<double>(cell.hidden);
  return 3 * 2 * tokens * slots_of(cell) * hidden + expert_flops(cell, slots_of(cell));
}

double bytes_of(const Cell& cell) {
  return expert_bytes(cell, cell.experts) +
         row_bytes(cell, 2 * static_cast<double>(cell.tokens) + slots_of(cell));
}

/// A [T, S] matrix in f32.
double mixing_bytes(const Cell& cell) {
  return static_cast<double>(cell.tokens) * slots_of(cell) * sizeof(float);
}

class SoftLayerSubject final : public Subject {
 public:
  SoftLayerSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        layer_(in_->context,
               {.strategy = strategy_of(cell),
                .router = cell.router,
                .plan = {},
                .implementation = cell.impl,
                .dtype = cell.dtype},
               in_->weights, in_->cache.experts(in_->context, cell)),
        out_(cell.dtype, cell.tokens, cell.hidden) {}

  Check check() override {
    out_.poison();
    prepare(0);
    run();
    check_soft_routing(cell_, *in_, layer_.soft_routing());
    return check_output(cell_, *in_, layer_.soft_routing(), out_.view());
  }

  void prepare(std::int64_t i) override {
    const auto count = static_cast<std::int64_t>(in_->x.size());
    draw_ = static_cast<std::size_t>((i % count + count) % count);
  }

  void run() override {
    Stopwatch whole;
    StageTimes times;
    layer_.forward(in_->context, in_->x[draw_].view(), out_.view(), &times);
    const double whole_ms = whole.lap_ms();
    stages_ = {Stage{"t_logit_ms", times.logits},
               Stage{"t_select_ms", times.select},
               Stage{"t_pack_ms", times.pack},
               Stage{"t_route_ms", times.logits + times.select + times.plan + times.pack},
               Stage{"t_experts_ms", times.experts},
               Stage{"t_combine_ms", times.combine},
               Stage{"routing_share", (times.select + times.pack + times.combine) / whole_ms}};
  }

  std::span<const Stage> stages() const override { return stages_; }

  void describe(Record& record, const Ceilings& ceilings) const override {
    add_kernel(record, layer_.experts());
    const double flops = flops_of(cell_), bytes = bytes_of(cell_);
    record["flops"] = flops;
    record["bytes"] = bytes;
    // The logits are written and read for both softmaxes, each of which is written and read.
    record["bytes_moved"] = bytes + 7 * mixing_bytes(cell_) + row_bytes(cell_, 4 * slots_of(cell_));
    record["weight_bytes"] = expert_bytes(cell_, cell_.experts);
    add_limit(record,
              limit_of(flops, peak_of(ceilings, layer_.experts().isa(), multiplied_weights(cell_)),
                       bytes, ceilings.read_bw));
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  MoeLayer layer_;
  Matrix out_;
  std::size_t draw_ = 0;
  std::array<Stage, 7> stages_;
};

}  // namespace

MakeSubject prepare_soft_layer(Context& context, const Cell& cell, const RoutingSource& source,
                               WeightCache& weights) {
  return share_with_experts<Inputs, SoftLayerSubject>(context, cell, source, weights);
}

Cost soft_layer_cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  const double draws = static_cast<double>(num_draws(cell));
  return {.shared_bytes = raw_expert_bytes(cell) + row_bytes(cell, draws * tokens + slots_of(cell)),
          .own_bytes = implementation_bytes(cell, load) + 3 * mixing_bytes(cell) +
                       row_bytes(cell, 3 * slots_of(cell) + tokens),
          .flops = flops_of(cell),
          .touched_bytes = bytes_of(cell)};
}

}  // namespace switchyard
