#pragma once

#include <cstdint>

#include "switchyard/device.h"
#include "switchyard/quant.h"

namespace switchyard::gemm {

/// int4 weights of one projection on the device, in the records of int4_layout.h.
class GpuInt4Weights {
 public:
  /// Memory for `count` matrices of the shape and format of those of `like`.
  GpuInt4Weights(Context& context, const QuantizedMatrices& like, std::int64_t count, bool gated);

  /// Puts all of `up` in place from matrix `first` on, and `gate`, of the same shape, where the
  /// weights are gated. Waits.
  void place(Context& context, std::int64_t first, const QuantizedMatrices* gate,
             const QuantizedMatrices& up);

  const std::byte* data() const noexcept { return buffer_.data(); }
  std::int64_t bytes() const noexcept { return buffer_.bytes(); }
  std::int64_t packed_columns() const noexcept { return packed_columns_; }
  std::int64_t depth() const noexcept { return depth_; }  ///< that rows need: a multiple of 8
  bool zero_points() const noexcept { return zero_points_; }

 private:
  bool gated_, zero_points_;
  std::int64_t columns_, inputs_, packed_columns_, depth_, matrix_bytes_;
  DeviceBuffer buffer_;
};

}  // namespace switchyard::gemm
