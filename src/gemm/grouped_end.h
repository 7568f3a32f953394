#pragma once

#include "gemm/grouped_args.h"
#include "gemm/tensor_core.h"

// The end of a grouped product that all its kernels on GPUs share: activation and store.

namespace switchyard::gemm {

SWITCHYARD_DEVICE float activate(Activation activation, float x) noexcept {
  switch (activation) {
    case Activation::silu: return silu(x);
    case Activation::gelu: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
    case Activation::relu: return x < 0 ? 0.0f : x;  // NaN stays
  }
  return x;
}

/// Ends 8 fragments of 8 packed columns, of one row of a lane: values[f][b] is column 2 q + b of
/// fragment f. `row` points to the row of the output, `block` numbers the packed block of 64.
template <class T>
SWITCHYARD_DEVICE void finish_block(const GroupedArgs& args, std::byte* row, std::int64_t block,
                                    int lane, const float (&values)[8][2]) noexcept {
  const auto store = [&](std::int64_t column, const float(&v)[8]) {
    if (column >= args.columns) return;
    simt::Vector16 chunk;
    SWITCHYARD_UNROLL
    for (int i = 0; i < 4; ++i) chunk.word[i] = pack_pair<T>(v[2 * i], v[2 * i + 1]);
    std::byte* to = row + column * 2;
    if (args.out_is_aligned && column + 8 <= args.columns) {
      *reinterpret_cast<simt::Vector16*>(to) = chunk;
      return;
    }
    SWITCHYARD_UNROLL
    for (int i = 0; i < 8; ++i) {
      if (column + i >= args.columns) continue;
      reinterpret_cast<std::uint16_t*>(to)[i] =
          static_cast<std::uint16_t>(chunk.word[i / 2] >> (i % 2 * 16));
    }
  };
  float v[8];
  if (args.gated) {
    SWITCHYARD_UNROLL
    for (int i = 0; i < 8; ++i) {
      v[i] = activate(args.activation, values[i / 2 * 2][i % 2]) * values[i / 2 * 2 + 1][i % 2];
    }
    store(block * 32 + lane % 4 * 8, v);
    return;
  }
  SWITCHYARD_UNROLL
  for (int half = 0; half < 2; ++half) {
    SWITCHYARD_UNROLL
    for (int i = 0; i < 8; ++i) {
      const float x = values[half * 4 + i / 2][i % 2];
      v[i] = args.activated ? activate(args.activation, x) : x;
    }
    store(block * 64 + half * 32 + lane % 4 * 8, v);
  }
}

}  // namespace switchyard::gemm
