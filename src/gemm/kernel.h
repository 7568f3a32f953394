#pragma once

#include <string>

#include "gemm/epilogue_kernel.h"
#include "gemm/gemm_kernel.h"
#include "switchyard/context.h"

namespace switchyard::gemm {

enum class PanelFormat : std::uint8_t { rows, tiles, split_tiles };

/// One line of kernels.inc.
struct Kernel {
  Isa isa;
  DType weights;  ///< as stripes hold them
  DType panel;    ///< element type of panels; of split tiles what their parts add up to
  PanelFormat format;
  GemmFn run;
  BeginFn begin;  ///< nothing to do when null
  EndFn end;
  SplitFn split;  ///< for panels of split tiles
};

/// All kernels of this build, fastest first.
std::span<const Kernel> kernels() noexcept;

/// The fastest kernel not above `cap` that multiplies weights of `weights` with activations of
/// `activations`. Where vdpbf16ps is slow, AVX-512 widens bf16 weights instead. bf16 panels are
/// used for bf16 activations only: rounding others would lose bits. Split tiles are for f32
/// activations: of narrower ones, which need no splitting, nothing would be gained.
const Kernel& find_kernel(Isa cap, DType weights, DType activations) noexcept;

/// "amx_bf16 bf16 x bf16"
std::string name_of(const Kernel& kernel);

/// The epilogue of an ISA: that of AVX-512 BF16 for AMX too.
EpilogueFn find_epilogue(Isa isa, EpilogueKind kind, Activation act, DType element) noexcept;

}  // namespace switchyard::gemm
