#include "gemm/quant_variants.h"

#include "base/cpu.h"

namespace switchyard::gemm {
namespace {

#define SWITCHYARD_QUANT_ROW_KERNEL(isa, element)
#define SWITCHYARD_QUANT_KERNEL(isa, weights, min_rows, stripes, stripe_rows)                      \
  QuantKernel{Isa::isa,                                                                            \
              QuantFormat::weights,                                                                \
              min_rows,                                                                            \
              stripes,                                                                             \
              stripe_rows,                                                                         \
              quant_##weights##_##isa,                                                             \
              Isa::isa == Isa::amx_bf16 ? kTilesOn : nullptr,                                      \
              Isa::isa == Isa::amx_bf16 ? kTilesOff : nullptr,                                     \
              Isa::isa == Isa::amx_bf16 && QuantFormat::weights == QuantFormat::int8 ? kFindFinish \
                                                                                     : nullptr},
#if defined(SWITCHYARD_X86_KERNELS)
constexpr BeginFn kTilesOn = amx_begin;
constexpr EndFn kTilesOff = amx_end;
constexpr FindFinishFn kFindFinish = find_finish_avx512_bf16;
#else
constexpr BeginFn kTilesOn = nullptr;
constexpr EndFn kTilesOff = nullptr;
constexpr FindFinishFn kFindFinish = nullptr;
#endif
constexpr QuantKernel kKernels[] = {
#include "gemm/quant_kernels.inc"
};
#undef SWITCHYARD_QUANT_KERNEL
#undef SWITCHYARD_QUANT_ROW_KERNEL

struct RowKernel {
  Isa isa;
  DType element;
  RowFn run;
};

#define SWITCHYARD_QUANT_KERNEL(isa, weights, min_rows, stripes, stripe_rows)
#define SWITCHYARD_QUANT_ROW_KERNEL(isa, element) \
  {Isa::isa, DType::element, quant_row_##element##_##isa},
constexpr RowKernel kRowKernels[] = {
#include "gemm/quant_kernels.inc"
};
#undef SWITCHYARD_QUANT_KERNEL
#undef SWITCHYARD_QUANT_ROW_KERNEL

}  // namespace

std::span<const QuantKernel> quant_kernels() noexcept { return kKernels; }

std::vector<const QuantKernel*> choose_quant_kernels(Isa cap, QuantFormat format) {
  std::vector<const QuantKernel*> chosen;
  for (const QuantKernel& kernel : kKernels) {
    if (kernel.isa > cap || kernel.weights != format) continue;
    chosen.push_back(&kernel);
    if (kernel.min_rows == 1) return chosen;
  }
  return chosen;
}

RowFn find_quant_row(Isa cap, DType element) noexcept {
  for (const RowKernel& kernel : kRowKernels) {
    if (kernel.isa <= cap && kernel.element == element) return kernel.run;
  }
  return nullptr;  // unreachable: the portable lines take every dtype
}

bool reads_in_order(const QuantKernel& kernel) noexcept {
  const bool can = kernel.isa == Isa::avx512_bf16 || kernel.isa == Isa::avx2;
  return can && cpu_features().reads_in_order;
}

std::int64_t stripes_at_once(const QuantKernel& kernel, std::int64_t rows) noexcept {
  return rows <= kernel.stripe_rows && !reads_in_order(kernel) ? kernel.stripes : 1;
}

}  // namespace switchyard::gemm
