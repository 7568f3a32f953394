#pragma once

#include <cstdint>
#include <utility>

#include "cuda/gpu.h"
#include "gemm/gpu_config.h"
#include "gemm/gpu_int4_weights.h"
#include "gemm/gpu_rows.h"
#include "gemm/gpu_weights.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// What choose_config wants to know about a product on this device.
GpuProblem problem_on(const cuda::GpuInfo& gpu, int num_experts, std::int64_t rows,
                      std::int64_t columns, std::int64_t depth);

/// The FFN of `grouped` on a GPU: two products, the first with the activation at its end, whose
/// rows the second multiplies. No host decision depends on a count that is on the device, so that
/// a forward can be captured in a graph. `Weights` is GpuWeights or GpuInt4Weights.
template <class Weights>
class GpuFfn {
 public:
  GpuFfn(Weights up, Weights down, std::int64_t hidden, bool gated, Activation activation,
         DType element)
      : up_(std::move(up)),
        down_(std::move(down)),
        hidden_(hidden),
        gated_(gated),
        activation_(activation),
        element_(element) {}

  /// `in` and `out` are on the device, of the dtype `element`.
  void forward(Context& context, const GpuRows& rows, const ConstMatrixView& in,
               const MatrixView& out) const;

  std::int64_t weight_bytes() const noexcept { return up_.bytes() + down_.bytes(); }

 private:
  Weights up_, down_;
  std::int64_t hidden_;
  bool gated_;
  Activation activation_;
  DType element_;
};

/// Copies the weights to the device, from wherever they lie.
GpuFfn<GpuWeights> make_gpu_ffn(Context& context, const ExpertWeights& weights);

}  // namespace switchyard::gemm
