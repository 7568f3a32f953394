#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace switchyard {
namespace {

TEST(ThreadPool, DealsEveryIndexOnceAndTellsWhatComesNext) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      std::atomic<int> wrong{0};
      std::vector<std::int64_t> told(static_cast<std::size_t>(threads), -2);
      pool.for_each_dealt(count, [&](std::int64_t i, std::int64_t next, int thread) {
        ++visits[static_cast<std::size_t>(i)];
        std::int64_t& before = told[static_cast<std::size_t>(thread)];
        // What was told comes next, or was taken by another: then nothing of its own is left.
        if (before >= 0 && before != i && next != -1) ++wrong;
        before = next;
        if (thread == 0) std::this_thread::yield();
      });
      for (const auto& n : visits) ASSERT_EQ(n, 1) << threads << " threads, " << count;
      EXPECT_EQ(wrong, 0);
    }
  }
}

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

TEST(ThreadPool, PiecesCoverEveryIndexOnce) {
  ThreadPool pool(3);
  for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
    for (const std::int64_t piece : {0, 1, 2, 16, 5000}) {
      std::vector<std::atomic<int>> visits(count);
      pool.for_pieces(count, piece, [&](std::int64_t begin, std::int64_t end, int) {
        EXPECT_LT(begin, end);
        for (auto i = begin; i < end; ++i) ++visits[i];
      });
      for (const auto& v : visits) EXPECT_EQ(v.load(), 1);
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
