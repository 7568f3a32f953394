#include "gemm/schedule.h"

#include <algorithm>
#include <tuple>

#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kStreamingRows = 64;
constexpr std::int64_t kTasksPerThread = 8;
// A task gathers its panel before it multiplies: over fewer stripes that would not pay.
constexpr std::int64_t kFewestStripes = 4;
constexpr std::int64_t kSharedBytes = 64 << 20;
// The last tasks: no smaller than 1/32 of a thread's share, nor than a MiB or so of weights.
constexpr std::int64_t kLastPerThread = 32;
constexpr std::int64_t kLastFewestStripes = 8;

std::int64_t cost_of(std::int64_t rows, std::int64_t stripes) {
  return stripes * (rows + kStreamingRows);
}

std::int64_t divide_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit; }

// Into how many parts the stripes of a group are cut whose blocks of rows cost at most `cost`.
std::int64_t num_parts(const ScheduleShape& shape, std::int64_t cost, std::int64_t blocks,
                       std::int64_t dearest) {
  if (shape.threads == 1 && blocks == 1) return 1;
  const std::int64_t balanced = shape.threads == 1 ? 1 : divide_up(cost, dearest);
  const std::int64_t shared =
      blocks == 1 ? 1 : divide_up(shape.stripes * shape.stripe_bytes, kSharedBytes);
  return std::clamp<std::int64_t>(std::max(balanced, shared), 1,
                                  std::max<std::int64_t>(1, shape.stripes / kFewestStripes));
}

void cut(const Group& group, std::int64_t number, const ScheduleShape& shape, std::int64_t dearest,
         std::vector<Task>& tasks) {
  const std::int64_t blocks = divide_up(group.rows, shape.panel_rows);
  const std::int64_t step = round_up(divide_up(group.rows, blocks), shape.row_unit);
  const std::int64_t parts =
      num_parts(shape, cost_of(std::min(step, group.rows), shape.stripes), blocks, dearest);
  const auto boundary = [&](std::int64_t part) {
    return part == parts ? shape.stripes : shape.stripes * part / parts / 2 * 2;
  };
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t begin = boundary(part), end = boundary(part + 1);
    for (std::int64_t row = 0; row < group.rows; row += step) {
      const std::int64_t rows = std::min(step, group.rows - row);
      tasks.push_back({number, row, rows, begin, end, cost_of(rows, end - begin)});
    }
  }
}

// Guided self-scheduling (Polychronopoulos and Kuck 1987): cuts tasks by stripes so that none costs
// more than 1/(2 threads) of what is left when it begins.
void cut_last(const ScheduleShape& shape, std::vector<Task>& tasks) {
  if (shape.threads == 1) return;
  std::int64_t left = 0;
  for (const Task& task : tasks) left += task.cost;
  const std::int64_t cheapest = left / (shape.threads * kLastPerThread);
  const std::size_t count = tasks.size();
  std::size_t first_cut = count;
  for (std::size_t i = 0; i < count; ++i) {
    const Task task = tasks[i];
    const std::int64_t stripes = task.stripe_end - task.stripe_begin;
    const std::int64_t most = std::max<std::int64_t>({1, cheapest, left / (2 * shape.threads)});
    const std::int64_t parts = std::clamp<std::int64_t>(
        divide_up(task.cost, most), 1, std::max<std::int64_t>(1, stripes / kLastFewestStripes));
    left -= task.cost;
    if (first_cut == count && parts == 1) continue;
    if (first_cut == count) first_cut = i;
    for (std::int64_t part = 0; part < parts; ++part) {
      Task piece = task;
      piece.stripe_begin = task.stripe_begin + stripes * part / parts / 2 * 2;
      if (part + 1 < parts) {
        piece.stripe_end = task.stripe_begin + stripes * (part + 1) / parts / 2 * 2;
      }
      piece.cost = cost_of(piece.rows, piece.stripe_end - piece.stripe_begin);
      tasks.push_back(piece);
    }
  }
  const auto begin = tasks.begin();
  tasks.erase(begin + static_cast<std::ptrdiff_t>(first_cut),
              begin + static_cast<std::ptrdiff_t>(count));
}

}  // namespace

void make_schedule(std::span<const Group> groups, const ScheduleShape& shape,
                   std::vector<Task>& tasks) {
  tasks.clear();
  std::int64_t total = 0;
  for (const Group& group : groups) total += cost_of(group.rows, shape.stripes);
  const std::int64_t dearest = std::max<std::int64_t>(1, total / (shape.threads * kTasksPerThread));

  for (std::size_t g = 0; g < groups.size(); ++g) {
    cut(groups[g], static_cast<std::int64_t>(g), shape, dearest, tasks);
  }
  const auto order = [&](const Task& task) {
    return std::tuple(-groups[static_cast<std::size_t>(task.group)].rows, task.group,
                      task.stripe_begin, task.row_begin);
  };
  std::sort(tasks.begin(), tasks.end(),
            [&](const Task& a, const Task& b) { return order(a) < order(b); });
  cut_last(shape, tasks);
}

}  // namespace switchyard::gemm
