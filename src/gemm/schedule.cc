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
}

}  // namespace switchyard::gemm
