#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard::gemm {

/// Rows that meet one matrix.
struct Group {
  std::int64_t matrix;   ///< which expert's weights
  std::int64_t rows;     ///< > 0
  std::int64_t in_row;   ///< first row of the input
  std::int64_t out_row;  ///< first row of the output
};

/// A part of a product that one thread does alone: rows of a group times stripes of its matrix.
struct Task {
  std::int64_t group;
  std::int64_t row_begin, rows;
  std::int64_t stripe_begin, stripe_end;
  std::int64_t cost;
};

struct ScheduleShape {
  std::int64_t stripes;     ///< of each matrix
  std::int64_t panel_rows;  ///< most rows of a task
  std::int64_t row_unit;    ///< rows are cut at multiples of it
  int threads;
  std::int64_t stripe_bytes;
};

/// Cuts every group into tasks, those of the costliest group first, so that threads that take the
/// next task when free end together. Rows of a group are cut evenly; a task that costs more than
/// 1/8 of a thread's share is cut by stripes, at even ones. Blocks of rows that meet the same
/// stripes follow each other, so that all but the first find them in the shared cache: groups of
/// several blocks are cut into parts of 64 MiB of weights for that. The last tasks are cut finer,
/// so that a thread the machine slows down leaves the others little to wait for. Cost of a task is
/// stripes * (rows + 64): streaming a stripe of weights from memory takes the time of multiplying
/// it with some 64 to 128 rows. Which thread does a task never matters: tasks write disjoint
/// outputs in a fixed order of depth.
void make_schedule(std::span<const Group> groups, const ScheduleShape& shape,
                   std::vector<Task>& tasks);

}  // namespace switchyard::gemm
