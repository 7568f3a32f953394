#pragma once

#include <cstdint>
#include <cstring>

// The words that kernels are written in: threads, warps and blocks of CUDA. nvcc compiles them to
// its builtins, any other compiler to calls of an emulator (simt_host.h), so that a kernel is
// tested as an ordinary function on a machine without a GPU. Every collective takes all 32 lanes.

#if defined(__CUDACC__)
#define SWITCHYARD_DEVICE __device__ __forceinline__
#else
#define SWITCHYARD_DEVICE inline
#include "cuda/simt_host.h"
#endif

// Unrolls the loop that follows, whose bounds are constants.
#if defined(__CUDACC__)
#define SWITCHYARD_UNROLL _Pragma("unroll")
#else
#define SWITCHYARD_UNROLL
#endif

namespace switchyard::simt {

inline constexpr int kWarp = 32;
inline constexpr std::uint32_t kAllLanes = 0xffffffffu;

/// 16 bytes that are loaded and stored at once.
struct alignas(16) Vector16 {
  std::uint32_t word[4];
};

#if defined(__CUDACC__)

SWITCHYARD_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
SWITCHYARD_DEVICE int num_threads() { return static_cast<int>(blockDim.x); }
SWITCHYARD_DEVICE std::int64_t block_index() { return blockIdx.x; }
SWITCHYARD_DEVICE std::int64_t num_blocks() { return gridDim.x; }

SWITCHYARD_DEVICE void sync_threads() { __syncthreads(); }
SWITCHYARD_DEVICE void sync_warp() { __syncwarp(); }

template <class T>
SWITCHYARD_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <class T>
SWITCHYARD_DEVICE T shuffle_xor(T value, int lanes) {
  return __shfl_xor_sync(kAllLanes, value, lanes);
}
/// The value of the lane `distance` below; a lane without one keeps its own.
template <class T>
SWITCHYARD_DEVICE T shuffle_up(T value, int distance) {
  return __shfl_up_sync(kAllLanes, value, distance);
}
SWITCHYARD_DEVICE std::uint32_t ballot(bool holds) { return __ballot_sync(kAllLanes, holds); }
/// The lanes whose value is this lane's.
SWITCHYARD_DEVICE std::uint32_t match_any(std::uint32_t value) {
  return __match_any_sync(kAllLanes, value);
}
SWITCHYARD_DEVICE std::uint32_t reduce_max(std::uint32_t value) {
  return __reduce_max_sync(kAllLanes, value);
}
SWITCHYARD_DEVICE std::uint32_t reduce_min(std::uint32_t value) {
  return __reduce_min_sync(kAllLanes, value);
}
SWITCHYARD_DEVICE std::uint32_t reduce_add(std::uint32_t value) {
  return __reduce_add_sync(kAllLanes, value);
}

SWITCHYARD_DEVICE std::int32_t atomic_add(std::int32_t* at, std::int32_t value) {
  return atomicAdd(at, value);
}
SWITCHYARD_DEVICE std::int32_t atomic_min(std::int32_t* at, std::int32_t value) {
  return atomicMin(at, value);
}

SWITCHYARD_DEVICE int count_ones(std::uint32_t bits) { return __popc(bits); }
SWITCHYARD_DEVICE std::uint32_t bits_of(float value) { return __float_as_uint(value); }
SWITCHYARD_DEVICE float float_of(std::uint32_t bits) { return __uint_as_float(bits); }

/// A load and a store of what is used once: they leave the caches to others.
SWITCHYARD_DEVICE Vector16 load_once(const Vector16* at) {
  const uint4 v = __ldcs(reinterpret_cast<const uint4*>(at));
  return {{v.x, v.y, v.z, v.w}};
}
SWITCHYARD_DEVICE void store_once(Vector16* at, const Vector16& v) {
  __stcs(reinterpret_cast<uint4*>(at), make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]));
}

#else

template <class T>
T shuffle(T value, int lane) {
  return read_lane(value, [lane](int) { return lane & (kWarp - 1); });
}
template <class T>
T shuffle_xor(T value, int lanes) {
  return read_lane(value, [lanes](int lane) { return lane ^ lanes; });
}
template <class T>
T shuffle_up(T value, int distance) {
  return read_lane(value,
                   [distance](int lane) { return lane < distance ? lane : lane - distance; });
}
inline std::uint32_t ballot(bool holds) {
  return reduce_lanes(holds, std::uint32_t{0}, [](std::uint32_t bits, bool value, int lane) {
    return bits | static_cast<std::uint32_t>(value) << lane;
  });
}
inline std::uint32_t match_any(std::uint32_t value) {
  struct Lane {
    std::uint32_t value, equal;
  } mine{value, 0};
  warp_collective(mine, [](Lane* const(&lanes)[kLanes]) {
    for (Lane* lane : lanes) {
      for (int i = 0; i < kLanes; ++i) {
        if (lanes[i]->value == lane->value) lane->equal |= 1u << i;
      }
    }
  });
  return mine.equal;
}
inline std::uint32_t reduce_max(std::uint32_t value) {
  return reduce_lanes(value, std::uint32_t{0},
                      [](std::uint32_t a, std::uint32_t b, int) { return a > b ? a : b; });
}
inline std::uint32_t reduce_min(std::uint32_t value) {
  return reduce_lanes(value, ~std::uint32_t{0},
                      [](std::uint32_t a, std::uint32_t b, int) { return a < b ? a : b; });
}
inline std::uint32_t reduce_add(std::uint32_t value) {
  return reduce_lanes(value, std::uint32_t{0},
                      [](std::uint32_t a, std::uint32_t b, int) { return a + b; });
}

// One thread runs at a time: plain reads and writes are atomic. Sums wrap, as the device's do.
inline std::int32_t atomic_add(std::int32_t* at, std::int32_t value) {
  const std::int32_t before = *at;
  *at = static_cast<std::int32_t>(static_cast<std::uint32_t>(before) +
                                  static_cast<std::uint32_t>(value));
  return before;
}
inline std::int32_t atomic_min(std::int32_t* at, std::int32_t value) {
  const std::int32_t before = *at;
  if (value < before) *at = value;
  return before;
}

inline int count_ones(std::uint32_t bits) { return __builtin_popcount(bits); }
inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline Vector16 load_once(const Vector16* at) { return *at; }
inline void store_once(Vector16* at, const Vector16& v) { *at = v; }

#endif

SWITCHYARD_DEVICE int lane_index() { return thread_index() % kWarp; }
SWITCHYARD_DEVICE int warp_index() { return thread_index() / kWarp; }
/// The lanes below this one.
SWITCHYARD_DEVICE std::uint32_t lanes_below() { return (1u << lane_index()) - 1u; }

/// The sum over a warp in a fixed order, in every lane.
SWITCHYARD_DEVICE float sum_of_warp(float value) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value += shuffle_xor(value, lanes);
  return value;
}

}  // namespace switchyard::simt
