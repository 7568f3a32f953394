#include <cstring>

#include "gemm/gemm_kernel.h"
#include "switchyard/dtype.h"

// One row at a time over 32 accumulators, written so that any compiler vectorises the inner loop.

namespace switchyard::gemm {
namespace {

template <class Weight>
float weight_at(const Weight* stripe, std::int64_t k, std::int64_t j) noexcept {
  return to_float(stripe[k * kStripeColumns + j]);
}

template <>
float weight_at<bf16>(const bf16* stripe, std::int64_t k, std::int64_t j) noexcept {
  const std::int64_t unit = k / kDepthUnit * 1024 + j / 16 * 512;
  return to_float(stripe[unit + k % kDepthUnit / 2 * 32 + j % 16 * 2 + k % 2]);
}

template <class Weight>
void all_rows(const GemmArgs& g) noexcept {
  constexpr std::int64_t kDepthBlock = 8;
  const auto* stripe = static_cast<const Weight*>(g.stripe);
  const auto* panel = static_cast<const float*>(g.panel);
  if (!g.accumulate) {
    std::memset(g.acc, 0, static_cast<std::size_t>(g.rows * kStripeColumns) * sizeof(float));
  }
  for (std::int64_t k0 = 0; k0 < g.depth; k0 += kDepthBlock) {
    float widened[kDepthBlock][kStripeColumns];  // once for all rows
    for (std::int64_t k = 0; k < kDepthBlock; ++k) {
      for (std::int64_t j = 0; j < kStripeColumns; ++j) {
        widened[k][j] = weight_at(stripe, k0 + k, j);
      }
    }
    for (std::int64_t r = 0; r < g.rows; ++r) {
      const float* x = panel + r * g.panel_stride + k0;
      float* acc = g.acc + r * kStripeColumns;
      for (std::int64_t j = 0; j < kStripeColumns; ++j) {
        float sum = acc[j];
        for (std::int64_t k = 0; k < kDepthBlock; ++k) sum += x[k] * widened[k][j];
        acc[j] = sum;
      }
    }
  }
}

}  // namespace

void gemm_f32_f32_portable(const GemmArgs& g) noexcept { all_rows<float>(g); }
void gemm_bf16_f32_portable(const GemmArgs& g) noexcept { all_rows<bf16>(g); }
void gemm_f16_f32_portable(const GemmArgs& g) noexcept { all_rows<f16>(g); }

}  // namespace switchyard::gemm
