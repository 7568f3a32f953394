#include "gemm/epilogue_x86_avx512_bf16.h"

namespace switchyard::gemm {

EpilogueFn find_epilogue_avx512_bf16(EpilogueKind kind, Activation act, DType element) noexcept {
  return find(kind, act, element);
}

}  // namespace switchyard::gemm
