#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "switchyard/context.h"
#include "switchyard/plan.h"
#include "switchyard/view.h"

namespace switchyard {

/// silu(x) = x / (1 + e^-x); gelu is the exact one, x/2 * (1 + erf(x / sqrt 2)); relu = max(x, 0).
enum class Activation { silu, gelu, relu };

std::string_view name_of(Activation activation) noexcept;
/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
Activation activation_from_name(std::string_view name);

/// The weights of E experts, in memory the caller owns, all of one dtype (f32, bf16 or f16).
///   gated (SwiGLU, Shazeer 2020, arXiv 2002.05202):  down(act(gate(x)) * up(x))
///   plain (gate.data == nullptr):                    down(act(up(x)))
struct ExpertWeights {
  ConstMatricesView gate;  ///< [E, F, H], or empty
  ConstMatricesView up;    ///< [E, F, H]
  ConstMatricesView down;  ///< [E, H, F]
  Activation activation = Activation::silu;

  bool is_gated() const noexcept { return gate.data != nullptr; }
};

/// The most experts that masked_matmul takes: beyond, nearly all of its work is thrown away.
inline constexpr int kMaxMaskedExperts = 64;

/// How the grouped FFN is run.
///   loop     one GEMM call per expert and projection through oneDNN (bf16, f32) or OpenBLAS (f32)
///   padded   batched GEMM over [E, max n, H]: every expert pays for the fullest one
///   capacity, block  the kernels of grouped on rows copied into [E, C, H], C the plan's capacity
///            or the fullest expert, or into blocks of 64 rows: what padding costs
///   grouped  our kernels: prepacked weights, gather in the panel load, fused activation
///   masked_matmul  the same kernels without a permutation: every expert over all rows of `in`, of
///            which a mask keeps its own. E / K times the work (E times for packed rows), so for at
///            most kMaxMaskedExperts experts
/// On a CUDA device, with rows and weights of one dtype, bf16 or f16:
///   loop     cublasLtMatmul, one call per expert and projection
///   library  cublasGemmGroupedBatchedEx, one call per projection
///   padded   cublasGemmStridedBatchedEx over [E, max n, H]; these three wait for the counts
///   grouped  our persistent kernels: mma.sync from sm_80 on, wgmma on sm_90a
/// A name not on the device's list throws Error(invalid_argument); one this build cannot run throws
/// Error(unavailable) naming the package that brings it.
std::span<const std::string_view> expert_implementations(Device device = Device::cpu) noexcept;

struct DevicePlan;

/// E experts, prepacked for one implementation and one ISA, or for a CUDA device.
class Experts {
 public:
  virtual ~Experts() = default;

  /// Runs the FFN of every kept row.
  ///   in   [R, H] packed rows, or [T, H] tokens when plan.layout == Layout::fused
  ///   out  [R, H]; rows of padding are left as they are; same dtype as `in`
  /// Activations may be f32, bf16 or f16 whatever the weights are.
  /// Throws Error(invalid_argument) for a shape that does not fit.
  virtual void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
                       MatrixView out) = 0;

  /// The same on the device of the context that the experts were made with; `out` has at least
  /// plan.max_rows rows, and so has `in` unless plan.layout == Layout::fused. The other forward of
  /// such experts, and this one of others, throws Error(unavailable).
  void forward(Context& context, const DevicePlan& plan, ConstMatrixView in, MatrixView out) {
    forward_on_device(context, plan, in, out);
  }

  /// What computes: "oneDNN 2.6.3 bf16", "openblas f32", "avx512 f32", "amx_bf16 bf16", ...
  virtual std::string kernel() const = 0;

  /// The ISA of that kernel, as records name it.
  virtual std::string isa() const = 0;

  /// Bytes of prepacked weights held.
  virtual std::int64_t weight_bytes() const = 0;

 private:
  virtual void forward_on_device(Context& context, const DevicePlan& plan, ConstMatrixView in,
                                 MatrixView out);
};

/// Copies the weights into the implementation's own order; the caller's memory is not kept.
/// `activations` is the dtype that forward will be given.
std::unique_ptr<Experts> make_experts(Context& context, std::string_view implementation,
                                      const ExpertWeights& weights, DType activations);

}  // namespace switchyard
