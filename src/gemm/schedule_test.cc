#include "gemm/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "base/philox.h"
#include "gemm/blocking.h"
#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

std::vector<Group> random_groups(std::uint64_t stream, int count, int most_rows) {
  const Philox random(17, stream);
  std::vector<Group> groups;
  for (int i = 0; i < count; ++i) {
    groups.push_back({i, 1 + static_cast<std::int64_t>(random.word(i) % most_rows), 0, 0});
  }
  return groups;
}

// Every (row, stripe) of every group belongs to exactly one task, and no task is taller than a
// panel.
TEST(Schedule, CoversEverythingOnce) {
  for (const int threads : {1, 2, 7, 64}) {
    for (const std::int64_t stripes : {1, 3, 64}) {
      const auto groups = random_groups(threads, 9, 700);
      std::vector<Task> tasks;
      make_schedule(groups, {stripes, 256, 32, threads, 1 << 18}, tasks);
      std::map<std::int64_t, std::vector<int>> seen;
      for (std::size_t g = 0; g < groups.size(); ++g) {
        seen[g].resize(groups[g].rows * stripes);
      }
      for (const Task& task : tasks) {
        EXPECT_LE(task.rows, 256);
        EXPECT_EQ(task.row_begin % 32, 0);
        EXPECT_EQ(task.stripe_begin % 2, 0);
        EXPECT_LT(task.stripe_begin, task.stripe_end);
        for (auto r = task.row_begin; r < task.row_begin + task.rows; ++r) {
          for (auto s = task.stripe_begin; s < task.stripe_end; ++s) {
            ++seen.at(task.group).at(r * stripes + s);
          }
        }
      }
      for (const auto& [group, counts] : seen) {
        EXPECT_EQ(counts, std::vector<int>(counts.size(), 1)) << "group " << group;
      }
    }
  }
}

std::int64_t cost_of(const std::vector<Task>& tasks) {
  return std::accumulate(tasks.begin(), tasks.end(), std::int64_t{0},
                         [](std::int64_t sum, const Task& task) { return sum + task.cost; });
}

// Blocks of rows that meet the same weights follow each other, until the last tasks.
TEST(Schedule, RowBlocksShareTheirStripes) {
  std::vector<Task> tasks;
  make_schedule(std::vector<Group>{{0, 1000, 0, 0}, {1, 1030, 0, 0}}, {896, 160, 32, 2, 1 << 18},
                tasks);
  EXPECT_EQ(tasks.front().group, 1);
  std::int64_t left = cost_of(tasks);
  for (std::size_t i = 0; i < tasks.size(); left -= tasks[i++].cost) {
    EXPECT_LE((tasks[i].stripe_end - tasks[i].stripe_begin) << 18, (64 << 20) + (2 << 18));
    if (i > 0 && tasks[i].row_begin > 0 && left > 8 * tasks[0].cost) {
      EXPECT_EQ(tasks[i].stripe_begin, tasks[i - 1].stripe_begin);
      EXPECT_EQ(tasks[i].group, tasks[i - 1].group);
    }
  }
}

// Threads that take the costliest task left when free end within one small task of each other, also
// when one group has nearly all the rows.
TEST(Schedule, BalancesSkewedLoad) {
  for (const int threads : {2, 8}) {
    auto groups = random_groups(3, 64, 20);
    groups[5].rows = 8000;
    std::vector<Task> tasks;
    make_schedule(groups, {64, 256, 32, threads, 1 << 17}, tasks);
    std::vector<std::int64_t> busy(threads, 0);
    for (const Task& task : tasks) *std::min_element(busy.begin(), busy.end()) += task.cost;
    const auto total = std::accumulate(busy.begin(), busy.end(), std::int64_t{0});
    EXPECT_LT(*std::max_element(busy.begin(), busy.end()) * threads, total * 1.1);
  }
}

// So that no thread waits long for another's last one.
TEST(Schedule, LastTasksAreSmall) {
  for (const int threads : {2, 8}) {
    std::vector<Task> tasks;
    make_schedule(random_groups(5, 8, 700), {896, 256, 32, threads, 1 << 18}, tasks);
    const std::int64_t total = cost_of(tasks);
    std::int64_t left = total;
    for (const Task& task : tasks) {
      const std::int64_t two_stripes = 2 * task.cost / (task.stripe_end - task.stripe_begin);
      EXPECT_LE(task.cost, std::max(left / (2 * threads), total / (32 * threads)) + two_stripes);
      left -= task.cost;
    }
  }
}

TEST(Schedule, NoGroupsIsNoTasks) {
  std::vector<Task> tasks(3);
  make_schedule({}, {64, 256, 32, 2, 1 << 17}, tasks);
  EXPECT_TRUE(tasks.empty());
}

// The panel leaves L2 room for the passing weights, whatever the depth, and parts of the depth add
// up to it.
TEST(Blocking, FitsTheCaches) {
  const CacheSizes caches{48 << 10, 2 << 20, 100 << 20};
  for (const Kernel& kernel : kernels()) {
    for (const std::int64_t depth : {32, 768, 1024, 2048, 4096, 7168, 14336}) {
      const Blocking b = choose_blocking(kernel, depth, caches);
      const auto size = static_cast<std::int64_t>(size_of(kernel.panel));
      EXPECT_LE(b.rows * b.depth * size, caches.l2 / 8 * 5) << name_of(kernel) << depth;
      EXPECT_EQ(b.depth % kDepthUnit, 0);
      EXPECT_EQ(b.rows % kTileRows, 0);
      EXPECT_GE(b.rows, 32);
      EXPECT_GE(b.depth * ((depth + b.depth - 1) / b.depth), depth);
    }
  }
}

TEST(Blocking, UnknownCachesGiveASafeGuess) {
  const Blocking b = choose_blocking(kernels().front(), 4096, {});
  EXPECT_GE(b.rows, 32);
  EXPECT_GE(b.depth, 32);
}

}  // namespace
}  // namespace switchyard::gemm
