#include <immintrin.h>

#include "gemm/lines_in_order.h"
#include "gemm/quant_int8_scale.h"
#include "gemm/quant_kernel.h"

// int8 where memory is read best in one stream (CpuFeatures::reads_in_order): AMD's CPUs. Of a
// plain read, one core, depth 2048, and two, depth 4096 (beside it as
// quant_kernel_x86_avx512_bf16.cc reads elsewhere: eight streams up to 6 rows, then the next stripe
// fetched by pairs of lines):
//
//   rows                       1            4            6            8            12
//   one core                   1.1  (0.70)  1.1  (0.62)  0.89 (0.56)  0.83 (0.25)  0.60 (0.26)
//   two                        1.0  (0.75)  0.97 (0.78)  0.96 (0.80)  0.91 (0.36)  0.84 (0.35)
//
// The time of 24, 64 and 480 rows is 0.59, 0.81 and 0.94 of that; from L2 it is 0.96 of the peak's.
// Up to 6 rows, every line asked for 16 KiB ahead 0.72 to 0.78 with one core, every fourth 0.75 to
// 1.0; lines of both halves in turn 0.4; two stripes in turn 0.86 to 0.94.

namespace switchyard::gemm {
namespace {

struct Fours {
  using Sum = __m512i;
  static inline Sum zero() noexcept { return _mm512_setzero_si512(); }
  static inline Sum load(const float* acc) noexcept { return _mm512_load_si512(acc); }
  static inline void store(float* acc, Sum sum) noexcept { _mm512_store_si512(acc, sum); }
  static inline Sum add(Sum sum, __m512i line, __m512i x) noexcept {
    return _mm512_dpbusd_epi32(sum, line, x);
  }
};

}  // namespace

void quant_int8_in_order_avx512_bf16(const QuantArgs& q) noexcept {
  const std::int64_t begin = q.k_begin * kStripeColumns;
  multiply_in_order<Fours>({.panel = reinterpret_cast<const std::byte*>(q.panel) + q.k_begin,
                            .row_bytes = q.panel_stride,
                            .weights = q.stripe + begin,
                            .steps = (q.k_end - q.k_begin) / kQuantDepthUnit,
                            .next = q.next != nullptr ? q.next + begin : nullptr,
                            .acc = q.acc,
                            .rows = q.rows,
                            .accumulate = q.k_begin > 0});
  if (q.k_end < q.depth) return;
  for (std::int64_t r = 0; r < q.rows; ++r) {
    for (int h = 0; h < 2; ++h) {
      float* out = q.acc + r * kStripeColumns + h * 16;
      store_scaled(q, q.stripe, r, h, _mm512_load_si512(out), out);
    }
  }
}

}  // namespace switchyard::gemm
