#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/lines_in_order.h"

// For CPUs whose vdpbf16ps takes as long as an FMA (CpuFeatures::fast_dot_bf16): AMD's. On Intel it
// takes four times as long, and widening to f32 is faster (kernel_x86_avx512.cc).

namespace switchyard::gemm {
namespace {

struct Pairs {
  using Sum = __m512;
  static inline Sum zero() noexcept { return _mm512_setzero_ps(); }
  static inline Sum load(const float* acc) noexcept { return _mm512_load_ps(acc); }
  static inline void store(float* acc, Sum sum) noexcept { _mm512_store_ps(acc, sum); }
  static inline Sum add(Sum sum, __m512i line, __m512i x) noexcept {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)line);
  }
};

}  // namespace

void gemm_bf16_bf16_avx512_bf16(const GemmArgs& g) noexcept {
  multiply_in_order<Pairs>({.panel = static_cast<const std::byte*>(g.panel),
                            .row_bytes = g.panel_stride * 2,
                            .weights = static_cast<const std::byte*>(g.stripe),
                            .steps = g.depth / kDepthUnit,
                            .next = g.prefetch,
                            .acc = g.acc,
                            .rows = g.rows,
                            .accumulate = g.accumulate});
}

}  // namespace switchyard::gemm
