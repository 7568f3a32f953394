#include <immintrin.h>

#include "bench/limits_kernel.h"

namespace switchyard {
namespace {

// The operand of ldtilecfg (Intel SDM volume 1, chapter 18).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {};
  std::uint8_t rows[16] = {};
};

inline void begin() noexcept {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes_per_row[tile] = 64;
    config.rows[tile] = 16;
  }
  // GCC 12's _tile_loadconfig claims to read 8 bytes: without this the stores above may vanish.
  __asm__ volatile("" : : "m"(config));
  _tile_loadconfig(&config);
  alignas(64) std::uint16_t ones[16 * 32];
  for (auto& one : ones) one = 0x3f80;  // bf16 1.0; as bytes no worse than any others
  __asm__ volatile("" : : "m"(ones));   // _tile_loadd does not claim to read them either
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline float end() noexcept {
  alignas(64) float out[16 * 16];
  _tile_stored(0, out, 64);
  __asm__ volatile("" : : "r"(out) : "memory");
  _tile_release();
  return out[0];
}

}  // namespace

float peak_bf16_amx_bf16(std::int64_t steps) noexcept {
  begin();
  for (std::int64_t step = 0; step < steps; ++step) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return end();
}

float peak_int8_amx_bf16(std::int64_t steps) noexcept {
  begin();
  for (std::int64_t step = 0; step < steps; ++step) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  return end();
}

}  // namespace switchyard
