#include "cuda/simt.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "switchyard/error.h"

#if !defined(__CUDACC__)

namespace switchyard::simt {
namespace {

TEST(Simt, RunsEveryThreadOfEveryBlockOnce) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    std::vector<int> runs(5 * 96);
    run_grid({.blocks = 5, .threads = 96, .seed = seed}, [&](std::byte*) {
      ++runs[static_cast<std::size_t>(block_index() * num_threads() + thread_index())];
      EXPECT_EQ(num_blocks(), 5);
    });
    EXPECT_EQ(runs, std::vector<int>(5 * 96, 1));
  }
}

TEST(Simt, SharedMemoryIsPoisonedAndABarrierOrdersIt) {
  constexpr int kThreads = 128;
  std::vector<int> sums(3);
  run_grid({.blocks = 3, .threads = kThreads, .shared_bytes = kThreads * sizeof(int)},
           [&](std::byte* shared) {
             auto* value = reinterpret_cast<int*>(shared);
             EXPECT_EQ(value[thread_index()], -1);
             sync_threads();
             value[thread_index()] = thread_index();
             sync_threads();
             if (thread_index() == 0) {
               sums[static_cast<std::size_t>(block_index())] =
                   std::accumulate(value, value + kThreads, 0);
             }
           });
  EXPECT_EQ(sums, std::vector<int>(3, kThreads * (kThreads - 1) / 2));
}

TEST(Simt, CollectivesAreOfAWarp) {
  run_grid({.threads = 64}, [](std::byte*) {
    const int lane = lane_index(), warp = warp_index();
    const int id = 100 * warp + lane;
    EXPECT_EQ(shuffle(id, 5), 100 * warp + 5);
    EXPECT_EQ(shuffle_xor(id, 3), 100 * warp + (lane ^ 3));
    EXPECT_EQ(shuffle_up(id, 4), 100 * warp + (lane < 4 ? lane : lane - 4));
    EXPECT_EQ(ballot(lane % 2 == 1), 0xaaaaaaaau);
    EXPECT_EQ(match_any(static_cast<std::uint32_t>(lane / 8)), 0xffu << (lane / 8 * 8));
    EXPECT_EQ(reduce_max(static_cast<std::uint32_t>(id)), static_cast<unsigned>(100 * warp + 31));
    EXPECT_EQ(reduce_min(static_cast<std::uint32_t>(id)), static_cast<unsigned>(100 * warp));
    EXPECT_EQ(reduce_add(2), 64u);
    EXPECT_EQ(sum_of_warp(static_cast<float>(lane)), 496.0f);
    EXPECT_EQ(count_ones(lanes_below()), lane);
  });
}

TEST(Simt, AMissingBarrierShows) {
  // Each thread reads its neighbour's value before that is surely there.
  std::vector<int> wrong(1);
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    run_grid({.threads = 64, .shared_bytes = 64 * sizeof(int), .seed = seed},
             [&](std::byte* shared) {
               auto* value = reinterpret_cast<int*>(shared);
               value[thread_index()] = thread_index();
               if (value[(thread_index() + 1) % 64] != (thread_index() + 1) % 64) ++wrong[0];
             });
  }
  EXPECT_GT(wrong[0], 0);
}

template <class Body>
std::string complaint_of(Body body) {
  try {
    run_grid({.threads = 64}, body);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Simt, ThreadsThatWaitInVainAreReported) {
  EXPECT_NE(complaint_of([](std::byte*) {
              if (thread_index() < 40) sync_threads();
            }).find("40 wait at sync_threads, 0 at a collective of their warp and 24 have ended"),
            std::string::npos);
  EXPECT_NE(complaint_of([](std::byte*) {
              if (lane_index() != 7) ballot(true);
            }).find("stuck"),
            std::string::npos);
  EXPECT_NE(complaint_of([](std::byte*) {
              if (lane_index() == 7) {
                ballot(true);
              } else {
                match_any(1);
              }
            }).find("another collective"),
            std::string::npos);
  EXPECT_THROW(run_grid({.threads = 48}, [](std::byte*) {}), Error);
}

}  // namespace
}  // namespace switchyard::simt

#endif
