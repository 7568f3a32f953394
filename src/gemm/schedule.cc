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

std::int64_t cost_of(std::int64_t rows, std::int64_t stripes) {
  return stripes * (rows + kStreamingRows);
}

void cut_by_stripes(const Task& whole, std::int64_t dearest, std::vector<Task>& tasks) {
  const std::int64_t stripes = whole.stripe_end;
  const std::int64_t most = std::max<std::int64_t>(1, stripes / kFewestStripes);
  const std::int64_t parts =
      std::clamp<std::int64_t>((whole.cost + dearest - 1) / dearest, 1, most);
  for (std::int64_t part = 0; part < parts; ++part) {
    Task task = whole;
    task.stripe_begin = stripes * part / parts;
    task.stripe_end = stripes * (part + 1) / parts;
    task.cost = cost_of(task.rows, task.stripe_end - task.stripe_begin);
    tasks.push_back(task);
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
    const std::int64_t rows = groups[g].rows;
    const std::int64_t blocks = (rows + shape.panel_rows - 1) / shape.panel_rows;
    const std::int64_t step = round_up((rows + blocks - 1) / blocks, shape.row_unit);
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const std::int64_t block_rows = std::min(step, rows - begin);
      const Task whole{static_cast<std::int64_t>(g),      begin, block_rows, 0, shape.stripes,
                       cost_of(block_rows, shape.stripes)};
      if (shape.threads == 1) {
        tasks.push_back(whole);
      } else {
        cut_by_stripes(whole, dearest, tasks);
      }
    }
  }
  std::sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) {
    return std::tie(b.cost, a.group, a.stripe_begin, a.row_begin) <
           std::tie(a.cost, b.group, b.stripe_begin, b.row_begin);
  });
}

}  // namespace switchyard::gemm
