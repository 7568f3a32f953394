#include "gemm/kernel.h"

#include <fmt/format.h>

#include "base/cpu.h"

namespace switchyard::gemm {
namespace {

constexpr Kernel make_kernel(Isa isa, DType weights, DType panel, PanelFormat format, GemmFn run) {
  Kernel kernel{isa, weights, panel, format, run, nullptr, nullptr, nullptr};
#if defined(SWITCHYARD_X86_KERNELS)
  if (isa == Isa::amx_bf16) {
    kernel.begin = amx_begin;
    kernel.end = amx_end;
  }
  if (format == PanelFormat::split_tiles) {
    kernel.begin = amx_split_begin;
    kernel.split = split_rows_amx_bf16;
  }
#endif
  return kernel;
}

#define SWITCHYARD_GEMM_KERNEL(isa, weights, panel, format)                \
  make_kernel(Isa::isa, DType::weights, DType::panel, PanelFormat::format, \
              gemm_##weights##_##panel##_##isa),
constexpr Kernel kKernels[] = {
#include "gemm/kernels.inc"
};
#undef SWITCHYARD_GEMM_KERNEL

}  // namespace

std::span<const Kernel> kernels() noexcept { return kKernels; }

const Kernel& find_kernel(Isa cap, DType weights, DType activations) noexcept {
  const Kernel* found = nullptr;
  for (const Kernel& kernel : kKernels) {
    const bool takes_any = kernel.panel == DType::f32 && kernel.format == PanelFormat::rows;
    const bool exact = takes_any || kernel.panel == activations;
    const bool pays = kernel.isa != Isa::avx512_bf16 || cpu_features().fast_dot_bf16;
    if (kernel.isa <= cap && kernel.weights == weights && exact && pays && found == nullptr) {
      found = &kernel;
    }
  }
  return *found;  // the portable lines take every dtype
}

std::string name_of(const Kernel& kernel) {
  return fmt::format("{} {} x {}", switchyard::name_of(kernel.isa),
                     switchyard::name_of(kernel.panel), switchyard::name_of(kernel.weights));
}

EpilogueFn find_epilogue(Isa isa, EpilogueKind kind, Activation act, DType element) noexcept {
#if defined(SWITCHYARD_X86_KERNELS)
  if (isa >= Isa::avx512_bf16) return find_epilogue_avx512_bf16(kind, act, element);
  if (isa == Isa::avx512) return find_epilogue_avx512(kind, act, element);
  if (isa == Isa::avx2) return find_epilogue_avx2(kind, act, element);
#endif
  static_cast<void>(isa);
  return find_epilogue_portable(kind, act, element);
}

}  // namespace switchyard::gemm
