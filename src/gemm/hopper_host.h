#pragma once

#include <cstring>
#include <vector>

#include "cuda/simt_host.h"
#include "gemm/mma_layout.h"
#include "gemm/tensor_core_host.h"

// What hopper.h declares, emulated for tests. Products read shared memory as late as they may, in
// the wait that promises them: a stage that is released too early gives wrong sums. Operands are
// found through the descriptor's fields and the swizzle of addresses, as the hardware does.

namespace switchyard::gemm {

inline std::uint32_t descriptor_address(SharedAddress at, SharedAddress base) {
  return static_cast<std::uint32_t>(at - base);
}

inline void fence_async_proxy() {}

struct Barrier {
  SharedAddress at;

  void init(int arrivals) const {
    State state{static_cast<std::int16_t>(arrivals), static_cast<std::int16_t>(arrivals), 0};
    save(state);
  }
  void arrive() const { arrive_expecting(0); }
  void arrive_expecting(int bytes) const {
    State state = load();
    state.bytes_and_phase += bytes * 2;
    --state.left;
    save(state);
  }
  void complete(int bytes) const {
    State state = load();
    state.bytes_and_phase -= bytes * 2;
    save(state);
  }
  void wait(int parity) const {
    while ((load().bytes_and_phase & 1) == parity) simt::yield();
  }

 private:
  struct State {
    std::int16_t arrivals, left;
    std::int32_t bytes_and_phase;  // bytes to come * 2 + parity of the phase under way
  };

  State load() const {
    State state;
    std::memcpy(&state, at, sizeof state);
    return state;
  }
  void save(State state) const {
    if (state.left == 0 && state.bytes_and_phase / 2 == 0) {
      state.left = state.arrivals;
      state.bytes_and_phase ^= 1;
    }
    std::memcpy(at, &state, sizeof state);
  }
};

/// [matrices, rows, columns] of 16-bit elements, read in boxes of box_rows x 64 that are swizzled.
struct TensorMap {
  const std::byte* data;
  std::int64_t columns, rows, matrices;
  int box_rows;
};

inline void copy_box(SharedAddress to, const TensorMap& map, int column, int row, int matrix,
                     const Barrier& barrier) {
  for (int r = 0; r < map.box_rows; ++r) {
    for (int k = 0; k < kTileDepth; ++k) {
      std::uint16_t value = 0;
      if (row + r < map.rows && column + k < map.columns && matrix < map.matrices) {
        const std::int64_t i = (matrix * map.rows + row + r) * map.columns + column + k;
        std::memcpy(&value, map.data + i * 2, 2);
      }
      std::memcpy(to + swizzled(r, k / 8) + k % 8 * 2, &value, 2);
    }
  }
  barrier.complete(map.box_rows * kRowBytes);
}

template <int kRegisters>
void take_registers() {}
template <int kRegisters>
void drop_registers() {}

class ProductQueue {
 public:
  explicit ProductQueue(SharedAddress base) : base_(base) {}

  void begin() {}
  template <class T>
  void multiply(float (&)[128], std::uint64_t a, std::uint64_t b) {
    open_.push_back({a, b, [](std::uint16_t bits) { return to_float(T{bits}); }});
  }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int kLeft>
  void wait(float (&sums)[128]) {
    while (groups_.size() > kLeft) {
      for (const Product& product : groups_.front()) add(product, sums);
      groups_.erase(groups_.begin());
    }
    simt::sync_warp();  // .sync.aligned: no lane goes on before the others' operands are read
  }

 private:
  struct Product {
    std::uint64_t a, b;
    float (*value)(std::uint16_t bits);
  };

  float element(const Product& product, std::uint64_t descriptor, int row, int k) const {
    std::uint16_t bits;
    std::memcpy(&bits, base_ + described_element(descriptor, row, k), 2);
    return product.value(bits);
  }

  void add(const Product& product, float (&sums)[128]) const {
    const int thread = simt::thread_index() % 128;
    const int first = thread / 32 * 16;
    for (int half = 0; half < 2; ++half) {
      float a[16];
      const int row = first + c_element(thread % 32, half * 2).row;
      for (int k = 0; k < 16; ++k) a[k] = element(product, product.a, row, k);
      for (int f = 0; f < 32; ++f) {
        for (int odd = 0; odd < 2; ++odd) {
          const int column = f * 8 + c_element(thread % 32, odd).column;
          float& sum = sums[f * 4 + half * 2 + odd];
          for (int k = 0; k < 16; ++k) sum += a[k] * element(product, product.b, column, k);
        }
      }
    }
  }

  SharedAddress base_;
  std::vector<Product> open_;
  std::vector<std::vector<Product>> groups_;
};

}  // namespace switchyard::gemm
