#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "cuda/simt_host.h"
#include "gemm/mma_layout.h"
#include "switchyard/dtype.h"

// What tensor_core.h declares, emulated for tests. Asynchronous copies show every misuse: their
// target is poisoned when they are issued and filled only by the wait that promises it, so whoever
// reads too early, or is overwritten while still reading, computes NaN.

namespace switchyard::gemm {

using SharedAddress = std::byte*;
inline SharedAddress shared_address(std::byte* at) { return at; }

class CopyQueue {
 public:
  void copy(SharedAddress to, const std::byte* from, bool exists) {
    std::memset(to, 0xff, kChunkBytes);
    open_.push_back({to, exists ? from : nullptr});
  }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int kLeft>
  void wait() {
    while (groups_.size() > kLeft) {
      for (const Copy& copy : groups_.front()) {
        if (copy.from != nullptr) {
          std::memcpy(copy.to, copy.from, kChunkBytes);
        } else {
          std::memset(copy.to, 0, kChunkBytes);
        }
      }
      groups_.erase(groups_.begin());
    }
  }

 private:
  struct Copy {
    SharedAddress to;
    const std::byte* from;
  };
  std::vector<Copy> open_;
  std::vector<std::vector<Copy>> groups_;
};

inline void ldmatrix(SharedAddress row, std::uint32_t (&out)[4]) {
  struct Lane {
    const std::byte* row;
    std::uint32_t* out;
  } mine{row, out};
  simt::warp_collective(mine, [](Lane* const(&lanes)[32]) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < 4; ++m) {
        std::memcpy(&lanes[lane]->out[m], lanes[m * 8 + lane / 4]->row + lane % 4 * 4, 4);
      }
    }
  });
}

template <class T>
float element_of(const std::uint32_t* registers, int i) {
  return to_float(T{static_cast<std::uint16_t>(registers[i / 2] >> (i % 2 * 16))});
}

template <class T>
void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct Lane {
    float* d;
    const std::uint32_t* a;
    std::uint32_t b[2];
  } mine{d, a, {b0, b1}};
  simt::warp_collective(mine, [](Lane* const(&lanes)[32]) {
    float rows[16][16], columns[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const RowColumn at = a_element(lane, i);
        rows[at.row][at.column] = element_of<T>(lanes[lane]->a, i);
      }
      for (int i = 0; i < 4; ++i) {
        const RowColumn at = b_element(lane, i);
        columns[at.row][at.column] = element_of<T>(lanes[lane]->b, i);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const RowColumn at = c_element(lane, i);
        for (int k = 0; k < 16; ++k) lanes[lane]->d[i] += rows[at.row][k] * columns[k][at.column];
      }
    }
  });
}

template <class T>
std::uint32_t pack_pair(float low, float high) {
  return from_float<T>(low).bits | static_cast<std::uint32_t>(from_float<T>(high).bits) << 16;
}

inline std::uint32_t load_word(SharedAddress at) {
  std::uint32_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}
inline std::uint32_t load_byte(SharedAddress at) { return static_cast<std::uint32_t>(*at); }

inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
template <class T>
std::uint32_t fused_pair(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const auto of = [&](int i) {  // exact in f32 for what kernels do: integers
    return element_of<T>(&a, i) * element_of<T>(&b, i) + element_of<T>(&c, i);
  };
  return pack_pair<T>(of(0), of(1));
}

template <class T>
float widen(T x) {
  return to_float(x);
}

inline float silu(float x) { return x / (1.0f + std::exp(-x)); }
inline float error_function(float x) { return std::erf(x); }

}  // namespace switchyard::gemm
