#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace switchyard {
namespace {

TEST(ThreadPool, RunVisitsEveryThreadOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int repeat = 0; repeat < 100; ++repeat) {
      std::vector<int> visits(threads, 0);
      pool.run([&](int thread) { ++visits[thread]; });
      EXPECT_EQ(visits, std::vector<int>(threads, 1));
    }
  }
}

TEST(ThreadPool, RangesCoverExactly) {
  ThreadPool pool(3);
  for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
    for (const std::int64_t grain : {1, 2, 16, 5000}) {
      std::vector<int> visits(count, 0);
      pool.for_ranges(count, grain, [&](std::int64_t begin, std::int64_t end, int) {
        EXPECT_EQ(begin % grain, 0);
        for (auto i = begin; i < end; ++i) ++visits[i];
      });
      EXPECT_EQ(visits, std::vector<int>(count, 1));
    }
  }
}

TEST(ThreadPool, ForEachVisitsEveryIndexOnce) {
  ThreadPool pool(4);
  for (const std::int64_t count : {0, 1, 5, 333}) {
    std::vector<std::atomic<int>> visits(count);
    pool.for_each(count, [&](std::int64_t i, int) { ++visits[i]; });
    for (const auto& v : visits) EXPECT_EQ(v.load(), 1);
  }
}

// Threads that have gone to sleep must wake, and a pool that never ran must stop.
TEST(ThreadPool, SleepersWakeAndIdlePoolsStop) {
  ThreadPool idle(5);
  ThreadPool pool(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::atomic<int> calls{0};
  pool.run([&](int) { ++calls; });
  EXPECT_EQ(calls.load(), 2);
}

}  // namespace
}  // namespace switchyard
