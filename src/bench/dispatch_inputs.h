#pragma once

#include <vector>

#include "base/buffer.h"
#include "bench/draws.h"
#include "bench/record.h"
#include "switchyard/plan.h"

namespace switchyard {

PlanOptions plan_options_of(const Cell& cell);

/// An owned [rows, cols] matrix whose first rows can be viewed alone.
class Matrix {
 public:
  Matrix() = default;
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols);

  MatrixView view() const noexcept { return view_; }
  MatrixView first(std::int64_t rows) const noexcept;
  /// Fills it with NaN, so that what is never written shows.
  void poison() const noexcept;

 private:
  Buffer buffer_;
  MatrixView view_;
};

/// Independent normal elements. `stream` tells the tensors of a cell apart.
Matrix normal_matrix(Context& context, DType dtype, std::int64_t rows, std::int64_t cols,
                     std::uint64_t seed, std::uint64_t stream);

/// Where the rows of every draw go.
struct Plans {
  Plans(Context& context, const Draws& draws, const PlanOptions& options);

  std::vector<DispatchPlan> of_draw;
  std::int64_t max_rows = 0;  ///< over the draws

  /// Mean over the draws of what `quantity(plan)` gives.
  template <class Quantity>
  double mean(Quantity&& quantity) const {
    double sum = 0;
    for (const DispatchPlan& plan : of_draw) sum += static_cast<double>(quantity(plan));
    return sum / static_cast<double>(of_draw.size());
  }
};

/// What pack, combine, dispatch and experts share: where rows go, drawn ahead.
struct DispatchInputs {
  DispatchInputs(Context& c, const Cell& cell, const RoutingSource& source)
      : context(c),
        options(plan_options_of(cell)),
        draws(c, cell, source, num_draws(cell)),
        plans(c, draws, options) {}

  Context& context;
  PlanOptions options;
  Draws draws;
  Plans plans;
};

std::int64_t kept_assignments(const DispatchPlan& plan) noexcept;
std::int64_t active_experts(const DispatchPlan& plan) noexcept;
/// Tokens with at least one kept assignment.
std::int64_t kept_tokens(const DispatchPlan& plan) noexcept;

/// The load, drop and gate fields.
void add_load(Record& record, const Routing& routing, const DispatchPlan& plan);

}  // namespace switchyard
