#pragma once

#include <immintrin.h>

#include <cstdint>

// What kernels of AMX tiles share. Internal linkage: each ISA's kernels get a copy of their own.
namespace switchyard::gemm {
namespace {

/// Eight tiles of up to 16 rows of up to 64 bytes each; palette 1.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {};
  std::uint8_t rows[16] = {};
};

inline void load_tile_config(const TileConfig& config) noexcept {
  // GCC 12 believes that the load reads 8 bytes and drops the other stores: force all 64 out.
  __asm__ volatile("" : : "m"(config) : "memory");
  _tile_loadconfig(&config);
}

/// Keeps ordinary accesses on their side: the tile intrinsics of GCC 12 carry no memory clobber.
inline void fence() noexcept { __asm__ volatile("" ::: "memory"); }

}  // namespace
}  // namespace switchyard::gemm
