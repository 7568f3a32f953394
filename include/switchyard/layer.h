#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "switchyard/combine.h"
#include "switchyard/experts.h"
#include "switchyard/pack.h"
#include "switchyard/plan.h"
#include "switchyard/router.h"
#include "switchyard/routing.h"

namespace switchyard {

/// What a layer is made of. All memory is the caller's and may go after construction.
struct LayerWeights {
  /// A matrix [E, H] for logits = x router^T, or an MLP: see router.h. With a strategy that mixes
  /// (soft_moe) E * slots_per_expert outputs, one per slot.
  RouterWeights router;
  std::span<const float> bias;  ///< [E] selection bias (sigmoid_bias), or empty
  ExpertWeights experts;
  /// Optional expert(s) every token passes, as one FFN (E = 1) of their joint width
  /// (DeepSeekMoE, arXiv 2401.06066).
  ExpertWeights shared;
  /// [1, H]: shared output is scaled by sigmoid(x . shared_gate) (Qwen2-MoE), or empty.
  ConstMatrixView shared_gate;
  /// [E, H], of router's dtypes: noise_logits = x router_noise^T (noisy_topk), or empty.
  ConstMatrixView router_noise;
};

struct LayerConfig {
  Strategy strategy;
  RouterParams router;
  PlanOptions plan;
  std::string implementation = "grouped";  ///< of the experts
  DType dtype = DType::f32;                ///< of x and out
};

/// Wall time of each stage of one forward, in milliseconds.
struct StageTimes {
  double logits = 0, select = 0, plan = 0, pack = 0, experts = 0, combine = 0, shared = 0;
};

/// logits -> route -> plan -> pack -> experts -> combine. With a strategy that mixes pack and
/// combine are dense products with the two matrices of its SoftRouting.
///
/// On a context with a CUDA device x and out are the device's, weights the host's. Work is put into
/// the stream (device.h); times are the device's and reading them waits. Error(unavailable) for
/// a strategy that runs on the CPU only (routes_on_device).
class MoeLayer {
 public:
  /// Prepacks the weights. Throws Error(invalid_argument) naming the tensor that does not fit.
  MoeLayer(Context& context, const LayerConfig& config, const LayerWeights& weights);

  /// The same on experts that are prepacked already, for config.dtype: of weights.experts only up's
  /// shape is read. Layers that share experts must not forward at the same time.
  MoeLayer(Context& context, const LayerConfig& config, const LayerWeights& weights,
           std::shared_ptr<Experts> experts);
  ~MoeLayer();
  MoeLayer(MoeLayer&&) noexcept;
  MoeLayer& operator=(MoeLayer&&) noexcept;

  /// out [T, H] = MoE(x [T, H]); allocates nothing once it has seen a T at least as large.
  /// Throws Error(invalid_argument) for shapes, dtypes, NaN logits.
  void forward(Context& context, ConstMatrixView x, MatrixView out, StageTimes* times = nullptr);

  /// The same with routing decided elsewhere (a recorded trace): skips logits and select.
  /// Throws Error(invalid_argument) for a strategy that mixes.
  void forward(Context& context, ConstMatrixView x, const Routing& routing, MatrixView out,
               StageTimes* times = nullptr);

  /// On a device: waits, and makes routing() and plan() those of the last forward. Throws
  /// Error(invalid_argument) naming the token where logits held a NaN.
  void fetch(Context& context);

  const Routing& routing() const noexcept;           ///< of the last forward, or fetch on a device
  const DispatchPlan& plan() const noexcept;         ///< the same; of slots where it mixed
  const SoftRouting& soft_routing() const noexcept;  ///< of the last forward, where it mixed
  const Experts& experts() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard
