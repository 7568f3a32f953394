#include "bench/dispatch_inputs.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "switchyard/load.h"
#include "workload/tensors.h"

namespace switchyard {

PlanOptions plan_options_of(const Cell& cell) {
  return {.layout = cell.layout,
          .capacity_factor = cell.capacity_factor,
          .drop_policy = cell.drop_policy,
          .renormalise = cell.renormalise};
}

Matrix::Matrix(DType dtype, std::int64_t rows, std::int64_t cols)
    : buffer_(std::max<std::int64_t>(1, rows * cols) * static_cast<std::int64_t>(size_of(dtype))),
      view_{buffer_.data(), dtype, rows, cols, cols} {}

MatrixView Matrix::first(std::int64_t rows) const noexcept {
  MatrixView part = view_;
  part.rows = rows;
  return part;
}

void Matrix::poison() const noexcept {
  // All bits set is a NaN in f32, bf16 and f16.
  std::memset(buffer_.data(), 0xff, static_cast<std::size_t>(buffer_.bytes()));
}

Matrix normal_matrix(Context& context, DType dtype, std::int64_t rows, std::int64_t cols,
                     std::uint64_t seed, std::uint64_t stream) {
  Matrix matrix(dtype, rows, cols);
  fill_normal(context, matrix.view(), seed, stream, 1.0f);
  return matrix;
}

Plans::Plans(Context& context, const Draws& draws, const PlanOptions& options) {
  for (std::int64_t d = 0; d < draws.count(); ++d) {
    DispatchPlan& plan = of_draw.emplace_back();
    make_plan(context, draws.routing(d), options, plan);
    max_rows = std::max(max_rows, plan.num_rows());
  }
}

std::int64_t kept_assignments(const DispatchPlan& plan) noexcept {
  return std::accumulate(plan.expert_rows.begin(), plan.expert_rows.end(), std::int64_t{0});
}

std::int64_t active_experts(const DispatchPlan& plan) noexcept {
  return std::count_if(plan.expert_rows.begin(), plan.expert_rows.end(),
                       [](std::int64_t n) { return n > 0; });
}

std::int64_t kept_tokens(const DispatchPlan& plan) noexcept {
  std::int64_t tokens = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(plan.num_tokens); ++t) {
    const auto row = plan.row_of_assignment.begin();
    tokens += std::any_of(row + plan.token_begin[t], row + plan.token_begin[t + 1],
                          [](std::int32_t r) { return r >= 0; });
  }
  return tokens;
}

void add_load(Record& record, const Routing& routing, const DispatchPlan& plan) {
  const LoadStats load = load_stats(plan.expert_rows);
  record["load_cv"] = load.cv;
  record["load_max_over_mean"] = load.max_over_mean;
  record["max_vio"] = load.max_vio;
  record["load_entropy"] = load.entropy;
  record["experts_active"] = load.experts_active;
  record["expert_load"] = plan.expert_rows;
  const DropStats drop = drop_stats(plan);
  record["drop_rate"] = drop.drop_rate;
  record["token_drop_rate"] = drop.token_drop_rate;
  record["padding_rows"] = drop.padding_rows;
  record["gate_entropy"] = gate_entropy(routing);
}

}  // namespace switchyard
