#pragma once

#include "switchyard/device.h"
#include "switchyard/layer.h"

namespace switchyard {

/// MoeLayer on the device of its context.
class DeviceLayer {
 public:
  /// Throws Error(unavailable) for a strategy that runs on the CPU only.
  DeviceLayer(Context& context, const LayerConfig& config, const LayerWeights& weights,
              std::shared_ptr<Experts> experts);
  ~DeviceLayer();

  /// As MoeLayer::forward; x and out are on the device. Waits only where times are asked for.
  void forward(Context& context, ConstMatrixView x, MatrixView out, StageTimes* times);
  void forward(Context& context, ConstMatrixView x, const Routing& routing, MatrixView out,
               StageTimes* times);

  /// Copies the routing and the plan of the last forward to the host. Waits.
  void fetch(Context& context);
  const Routing& routing() const noexcept;    ///< as fetched
  const DispatchPlan& plan() const noexcept;  ///< as fetched
  const Experts& experts() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard
