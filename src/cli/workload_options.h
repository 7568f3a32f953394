#pragma once

#include <functional>
#include <vector>

#include "bench/grid.h"
#include "cli/command_line.h"

namespace switchyard::cli {

/// The workload a verb was asked for: a grid of cells, and what varies beside its axes.
struct Workload {
  Grid grid;
  /// One more axis per element: the ways it changes a cell.
  std::vector<std::vector<std::function<void(Cell&)>>> variations;
  /// --skew-experts and --skew-bias: every pair is a routing source skew:N:B.
  std::vector<std::int64_t> skew_experts;
  std::vector<double> skew_bias;
};

/// The options that fill a workload. Every numeric one takes a list or a range, every name a list.
std::vector<OptionGroup> workload_options(Workload& workload);

/// All cells, grouped so that the cells of a group differ in impl only.
std::vector<std::vector<Cell>> cells_of(const Workload& workload);

}  // namespace switchyard::cli
