#include <cmath>

#include "topk/exp.h"
#include "topk/topk_insert.h"
#include "topk/topk_kernel.h"

namespace switchyard {
namespace {

float sum_of_exp(const float* x, int num_columns, float max, float scale) noexcept {
  float lanes[kSumLanes] = {};
  for (int e = 0; e < num_columns; ++e) {
    lanes[e % kSumLanes] += exp_nonpositive((x[e] - max) * scale);
  }
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

bool has_nan(const float* x, std::int64_t count) noexcept {
  bool found = false;
  for (std::int64_t i = 0; i < count; ++i) found |= x[i] != x[i];
  return found;
}

}  // namespace

// Scans each row with the list of the best so far: a column that is no candidate costs a compare.
// The weights' place holds the list's values meanwhile.
std::int64_t topk_portable(const TopkArgs& args) noexcept {
  for (std::int64_t row = 0; row < args.num_rows; ++row) {
    const float* x = args.x + row * args.row_stride;
    if (has_nan(x, args.num_columns)) return row;
    std::int32_t* columns = args.index + row * args.k;
    float* values = args.weight + row * args.k;
    int count = 0;
    for (int e = 0; e < args.num_columns; ++e) {
      count = topk_insert(x[e], e, values, columns, count, args.k);
    }
    count_choice(args, row);
    const float max = values[0];
    for (int i = 0; i < args.k; ++i) values[i] = exp_nonpositive((values[i] - max) * args.scale);
    if (args.share != nullptr) take_share(*args.share, values, args.k);
    if (args.max != nullptr) args.max[row] = max;
    if (args.sum != nullptr) args.sum[row] = sum_of_exp(x, args.num_columns, max, args.scale);
  }
  return args.num_rows;
}

bool sigmoid_portable(const float* x, std::int64_t count, float* y) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    const float e = exp_nonpositive(-std::fabs(x[i]));
    y[i] = (x[i] >= 0.0f ? 1.0f : e) / (1.0f + e);
  }
  return has_nan(x, count);
}

}  // namespace switchyard
