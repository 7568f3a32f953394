#pragma once

#include <cstdint>

#include "topk/topk_kernel.h"

namespace switchyard {

/// Puts (value, column) into the falling list of `count` entries that keeps at most k, behind its
/// equals: columns must arrive in rising order. Returns the new count. Static, because each ISA's
/// file needs a copy compiled for that ISA.
static inline int topk_insert(float value, std::int32_t column, float* values,
                              std::int32_t* columns, int count, int k) noexcept {
  if (count == k) {
    if (!(value > values[k - 1])) return count;
    --count;
  }
  int at = count;
  for (; at > 0 && value > values[at - 1]; --at) {
    values[at] = values[at - 1];
    columns[at] = columns[at - 1];
  }
  values[at] = value;
  columns[at] = column;
  return count + 1;
}

static inline void take_share(const TopkShare& share, float* weight, int k) noexcept {
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += weight[i];
  const float scale = share.factor / (sum + share.epsilon);
  for (int i = 0; i < k; ++i) weight[i] *= scale;
}

/// Adds a row's choice to args.num_chosen.
static inline void count_choice(const TopkArgs& args, std::int64_t row) noexcept {
  if (args.num_chosen == nullptr) return;
  for (int i = 0; i < args.k; ++i) ++args.num_chosen[args.index[row * args.k + i]];
}

}  // namespace switchyard
