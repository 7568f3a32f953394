#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

// A CUDA grid on one CPU thread: blocks one after another, the threads of a block as fibers that
// switch where they wait for each other. Which runs next is drawn from a seed, so that a kernel
// that forgets a barrier is caught by its result. Not safe to nest.

namespace switchyard::simt {

inline constexpr int kLanes = 32;

struct Grid {
  std::int64_t blocks = 1;
  int threads = kLanes;          ///< a multiple of 32, at most 1024
  std::size_t shared_bytes = 0;  ///< given to every block filled with 0xff: NaN, -1
  std::uint64_t seed = 1;        ///< of the order of blocks, warps and threads
};

/// Calls body(shared) on every thread of every block.
/// Throws Error(check_failed) that says which threads wait for which in vain: a barrier or a
/// collective that not all reach, or lanes of a warp that meet in different collectives.
void run_grid(const Grid& grid, void (*body)(void* context, std::byte* shared), void* context);

template <class Body>
void run_grid(const Grid& grid, Body&& body) {
  run_grid(
      grid,
      [](void* context, std::byte* shared) {
        (*static_cast<std::remove_reference_t<Body>*>(context))(shared);
      },
      const_cast<void*>(static_cast<const void*>(&body)));
}

int thread_index();
int num_threads();
std::int64_t block_index();
std::int64_t num_blocks();
void sync_threads();
/// Lets other threads run, for a thread that waits for what they write.
void yield();

/// Waits until all 32 lanes of the warp have come with their payloads; the last to come calls
/// work(payloads by lane). `kind` tells collectives apart.
void meet_warp(void* payload, const void* kind, void (*work)(void* context, void** payloads),
               void* context);

/// The rendezvous that every warp-wide operation is made of: work(Payload* const (&lanes)[32]) runs
/// once, sees and changes what all lanes brought.
template <class Payload, class Work>
void warp_collective(Payload& mine, Work&& work) {
  static const char kKind = 0;
  meet_warp(
      &mine, &kKind,
      [](void* context, void** payloads) {
        Payload* lanes[kLanes];
        for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<Payload*>(payloads[i]);
        (*static_cast<std::remove_reference_t<Work>*>(context))(lanes);
      },
      const_cast<void*>(static_cast<const void*>(&work)));
}

inline void sync_warp() {
  char nothing = 0;
  warp_collective(nothing, [](char* const(&)[kLanes]) {});
}

/// The value of lane source(own lane).
template <class T, class Source>
T read_lane(T value, Source source) {
  struct Lane {
    T in, out;
    int from;
  } mine{value, value, source(thread_index() % kLanes)};
  warp_collective(mine, [](Lane* const(&lanes)[kLanes]) {
    for (Lane* lane : lanes) lane->out = lanes[lane->from]->in;
  });
  return mine.out;
}

/// fold(...fold(fold(start, value of lane 0, 0), value of lane 1, 1)..., 31) in every lane.
template <class T, class R, class Fold>
R reduce_lanes(T value, R start, Fold fold) {
  struct Lane {
    T in;
    R out;
  } mine{value, start};
  warp_collective(mine, [start, fold](Lane* const(&lanes)[kLanes]) {
    R sum = start;
    for (int i = 0; i < kLanes; ++i) sum = fold(sum, lanes[i]->in, i);
    for (Lane* lane : lanes) lane->out = sum;
  });
  return mine.out;
}

}  // namespace switchyard::simt
