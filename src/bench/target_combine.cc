// The way back: each token the weighted sum of its expert rows.

#include <array>

#include "base/context.h"
#include "bench/device_subject.h"
#include "bench/dispatch_inputs.h"
#include "bench/oracle.h"
#include "bench/target_list.h"
#include "bench/work.h"
#include "combine/combine_impl.h"
#include "switchyard/combine.h"

namespace switchyard {
namespace {

struct Inputs : DispatchInputs {
  Inputs(Context& c, const Cell& cell, const RoutingSource& source)
      : DispatchInputs(c, cell, source),
        rows(normal_matrix(c, cell.dtype, plans.max_rows, cell.hidden, cell.seed, 0)) {}

  Matrix rows;
};

/// What people write first: tokens in parallel, one assignment after the other into an f32 row.
template <class T>
void scalar_combine(Context& context, const DispatchPlan& plan, ConstMatrixView rows,
                    MatrixView out, MatrixView sums) {
  pool_of(context).for_ranges(
      plan.num_tokens, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
        auto* sum = reinterpret_cast<float*>(sums.row(thread));
        for (std::int64_t t = begin; t < end; ++t) {
          std::fill(sum, sum + out.cols, 0.0f);
          for (auto a = static_cast<std::size_t>(plan.token_begin[static_cast<std::size_t>(t)]);
               a < static_cast<std::size_t>(plan.token_begin[static_cast<std::size_t>(t) + 1]);
               ++a) {
            if (plan.row_of_assignment[a] < 0) continue;
            const auto* row = reinterpret_cast<const T*>(rows.row(plan.row_of_assignment[a]));
            for (std::int64_t j = 0; j < out.cols; ++j) {
              sum[j] += plan.weight_of_assignment[a] * to_float(row[j]);
            }
          }
          auto* to = reinterpret_cast<T*>(out.row(t));
          for (std::int64_t j = 0; j < out.cols; ++j) to[j] = from_float<T>(sum[j]);
        }
      });
}

void describe_sums(Record& record, const Inputs& in, const Cell& cell, const Ceilings& ceilings) {
  const double bytes = combined_bytes(cell, in.plans);
  record["flops"] = 2 * in.plans.mean(kept_assignments) * static_cast<double>(cell.hidden);
  record["bytes"] = record["bytes_moved"] = bytes;
  record["bytes_per_token_strict"] = strict_bytes_per_token(cell, in.plans) / 2;
  add_limit(record, rows_limit(bytes, row_bytes(cell, static_cast<double>(cell.tokens)), ceilings));
  add_load(record, in.draws.routing(0), in.plans.of_draw[0]);
}

class CombineSubject final : public Subject {
 public:
  CombineSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : in_(std::move(in)),
        cell_(cell),
        out_(cell.dtype, cell.tokens, cell.hidden),
        sums_(DType::f32, in_->context.threads(), cell.hidden) {}

  Check check() override {
    out_.poison();
    prepare(0);
    run();
    check_plan(in_->draws.routing(0), in_->options, plan());
    return check_combined(in_->context, in_->draws.routing(0), plan(), rows(), out_.view(),
                          cell_.seed);
  }

  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }

  void run() override {
    if (cell_.impl == "gather_sum") {
      combine(in_->context, plan(), rows(), out_.view());
    } else if (cell_.dtype == DType::f32) {
      scalar_combine<float>(in_->context, plan(), rows(), out_.view(), sums_.view());
    } else if (cell_.dtype == DType::bf16) {
      scalar_combine<bf16>(in_->context, plan(), rows(), out_.view(), sums_.view());
    } else {
      scalar_combine<f16>(in_->context, plan(), rows(), out_.view(), sums_.view());
    }
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    record["isa"] = name_of(cell_.impl == "gather_sum" ? combine_isa(in_->context) : Isa::portable);
    describe_sums(record, *in_, cell_, ceilings);
  }

 private:
  const DispatchPlan& plan() const { return in_->plans.of_draw[static_cast<std::size_t>(draw_)]; }
  ConstMatrixView rows() const { return in_->rows.first(plan().num_rows()); }

  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  Matrix out_;
  Matrix sums_;  ///< [threads, H] of the scalar implementation
  std::int64_t draw_ = 0;
};

class DeviceCombineSubject final : public DeviceSubject {
 public:
  DeviceCombineSubject(std::shared_ptr<const Inputs> in, const Cell& cell)
      : DeviceSubject(in->context, in->draws),
        in_(std::move(in)),
        cell_(cell),
        rows_(context(), in_->rows.view()),
        out_(context(), cell.dtype, cell.tokens, cell.hidden),
        plans_(device_plans(context(), in_->plans)) {
    const auto sum = [this](std::int64_t d) {
      combine(context(), plans_[static_cast<std::size_t>(d)], rows_.view(), out_.view());
    };
    set_work(sum, true);
  }

  Check check() override {
    prepare(0);
    out_.poison(context());
    run();
    const DispatchPlan& plan = in_->plans.of_draw[0];
    check_plan(draws().routing(0), in_->options, plan);
    const Matrix out = out_.fetch(context(), cell_.tokens);
    return check_combined(context(), draws().routing(0), plan, in_->rows.first(plan.num_rows()),
                          out.view(), cell_.seed);
  }

  void describe(Record& record, const Ceilings& ceilings) const override {
    describe_device(record, ceilings);
    describe_sums(record, *in_, cell_, ceilings);
  }

 private:
  std::shared_ptr<const Inputs> in_;
  Cell cell_;
  DeviceMatrix rows_, out_;
  std::vector<DevicePlan> plans_;
};

Cost cost(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = static_cast<double>(cell.tokens);
  return {.shared_bytes = row_bytes(cell, load.rows) + routing_bytes(cell, load),
          .own_bytes = row_bytes(cell, tokens),
          .flops = 2 * load.kept * static_cast<double>(cell.hidden),
          .touched_bytes = row_bytes(cell, tokens + load.kept)};
}

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {.cost = cost,
                                      .prepare = share<Inputs, CombineSubject>,
                                      .prepare_on_device = share<Inputs, DeviceCombineSubject>,
                                      .not_applicable = kNotApplicable};

}  // namespace

Target combine_target() {
  return make_target<kMeasurement>("combine", "expert rows to token rows, weighted and summed",
                                   {"gather_sum", "scalar"}, {"gather_sum"});
}

}  // namespace switchyard
