#include "bench/cost.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/draws.h"

namespace switchyard {
namespace {

/// Logits drawn to estimate a load, where a matrix product computes them some 20 ms of work.
constexpr std::int64_t kSampleLogits = std::int64_t{1} << 18;

double double_of(std::int64_t x) { return static_cast<double>(x); }

std::vector<double> rows_of_expert(const Routing& routing) {
  std::vector<double> rows(static_cast<std::size_t>(routing.num_experts));
  for (const std::int32_t e : routing.expert) rows[static_cast<std::size_t>(e)] += 1;
  return rows;
}

double packed_rows(const Cell& cell, const std::vector<double>& kept, double capacity) {
  double rows = 0;
  double fullest = 0;
  for (const double n : kept) {
    rows += cell.layout == Layout::block ? std::ceil(n / 64) * 64 : n;
    fullest = std::max(fullest, n);
  }
  if (cell.layout != Layout::capacity) return rows;
  return double_of(cell.experts) * (capacity > 0 ? capacity : fullest);
}

// Every slot of every expert is a row, whatever the logits.
ExpectedLoad load_of_slots(const Cell& cell) {
  const double slots = double_of(cell.experts) * double_of(cell.router.slots_per_expert);
  return {.assignments = 0,
          .kept = slots,
          .active = double_of(cell.experts),
          .max_rows = double_of(cell.router.slots_per_expert),
          .rows = slots};
}

// Weights as cell.impl holds them. Dequantised ones are there twice while they are prepacked.
double weights_of_implementation(const Cell& cell) {
  const double experts = double_of(cell.experts);
  return (dequantizes(cell, cell.impl) ? 2 : 1) * multiplied_bytes(cell, experts);
}

}  // namespace

CellCost cell_cost(const Cost& cost) {
  constexpr double kMost = 9.2e18;
  return {static_cast<std::int64_t>(std::min(kMost, cost.shared_bytes + cost.own_bytes)),
          cost.flops, static_cast<std::int64_t>(std::min(kMost, cost.touched_bytes))};
}

ExpectedLoad expected_load(const Cell& cell, const RoutingSource& source) {
  if (strategy_of(cell).is_soft()) return load_of_slots(cell);
  Cell sample = cell;
  if (source.gives_logits()) {
    sample.tokens = std::min(cell.tokens, std::max<std::int64_t>(1, kSampleLogits / cell.experts));
  }
  Context context(ContextOptions{.threads = 1, .isa = {}});
  const Draws draws(context, sample, source, 1);
  const Routing& routing = draws.routing(0);
  std::vector<double> rows = rows_of_expert(routing);

  const double scale = double_of(cell.tokens) / double_of(sample.tokens);
  const double assignments = double_of(routing.num_assignments()) * scale;
  const double capacity =
      cell.capacity_factor > 0
          ? std::ceil(cell.capacity_factor * assignments / double_of(cell.experts))
          : 0;
  ExpectedLoad load;
  load.assignments = assignments;
  for (double& n : rows) {
    // Three standard deviations of a count cover what the sample could not see.
    if (scale > 1) n = n * scale + 3 * std::sqrt(n * scale);
    if (capacity > 0) n = std::min(n, capacity);
    load.active += n > 0;
    load.max_rows = std::max(load.max_rows, n);
    load.kept += n;
  }
  load.kept = std::min(load.kept, assignments);
  load.rows = packed_rows(cell, rows, capacity);
  return load;
}

double row_bytes(const Cell& cell, double rows) {
  return rows * double_of(cell.hidden) * double_of(size_of(cell.dtype));
}

double expert_bytes(const Cell& cell, double experts) {
  const double hidden = double_of(cell.hidden), ffn = double_of(cell.ffn);
  return experts * ((cell.gated ? 2 : 1) * matrix_bytes(cell.weights, cell.quant, ffn, hidden) +
                    matrix_bytes(cell.weights, cell.quant, hidden, ffn));
}

bool dequantizes(const Cell& cell, std::string_view implementation) {
  return cell.weights.quant &&
         (implementation == "loop" || implementation == "padded" || implementation == "library");
}

bool multiplies_elements(const Cell& cell, std::string_view implementation) {
  return dequantizes(cell, implementation) || (cell.weights.quant && cell.device == Device::cuda);
}

WeightFormat multiplied_weights(const Cell& cell) {
  if (!dequantizes(cell, cell.impl)) return cell.weights;
  if (cell.device == Device::cuda) return {cell.dtype, {}};
  return {cell.dtype == DType::bf16 ? DType::bf16 : DType::f32, {}};
}

double multiplied_bytes(const Cell& cell, double experts) {
  Cell multiplied = cell;
  multiplied.weights = multiplied_weights(cell);
  return expert_bytes(multiplied, experts);
}

double expert_flops(const Cell& cell, double rows) {
  return 2 * (cell.gated ? 3 : 2) * rows * double_of(cell.hidden) * double_of(cell.ffn);
}

double routing_bytes(const Cell& cell, const ExpectedLoad& load) {
  const double tokens = double_of(cell.tokens);
  const double logits = tokens * double_of(cell.experts) * sizeof(float);
  // Strategies that look at all tokens keep a matrix like the logits.
  const double scratch = strategy_of(cell).causal ? 0 : logits;
  // Of an assignment: expert, weight; its row, its weight in the plan; its row's token.
  const double of_draw = logits + load.assignments * 20 + tokens * 16;
  return of_draw * double_of(num_draws(cell)) + scratch;
}

double implementation_bytes(const Cell& cell, const ExpectedLoad& load) {
  const double hidden = double_of(cell.hidden);
  const double ffn = double_of(cell.ffn);
  const double projections = cell.gated ? 2 : 1;
  double rows = load.rows;
  if (cell.impl == "padded") rows = double_of(cell.experts) * load.max_rows;
  // Those copy padded rows in and out beside what the inner experts need.
  if (cell.impl == "capacity") rows = 2 * double_of(cell.experts) * load.max_rows;
  if (cell.impl == "block") rows = 2 * (load.rows + 64 * load.active);
  return weights_of_implementation(cell) + rows * (2 * hidden + projections * ffn) * sizeof(float);
}

}  // namespace switchyard
