#pragma once

#include <cstdint>

#include "switchyard/device.h"

namespace switchyard::gemm {

/// Weights of 16 bits of one projection on the device, in the packed order of mma_layout.h:
/// [E, packed_columns, depth], depth a multiple of 8, zeros where the matrices end.
class GpuWeights {
 public:
  /// Copies `up` [E, columns, inputs], and `gate` of the same shape unless its data is null. Both
  /// may lie on the host or on the device. Waits.
  GpuWeights(Context& context, const ConstMatricesView& gate, const ConstMatricesView& up);

  const std::byte* data() const noexcept { return buffer_.data(); }
  std::int64_t bytes() const noexcept { return buffer_.bytes(); }
  std::int64_t packed_columns() const noexcept { return packed_columns_; }
  std::int64_t depth() const noexcept { return depth_; }

 private:
  std::int64_t packed_columns_, depth_;
  DeviceBuffer buffer_;
};

/// The same as they are, dense: [E, rows, cols].
class DenseWeights {
 public:
  DenseWeights(Context& context, const ConstMatricesView& weights);

  const std::byte* data() const noexcept { return buffer_.data(); }
  std::int64_t bytes() const noexcept { return buffer_.bytes(); }
  std::int64_t count() const noexcept { return count_; }

 private:
  std::int64_t count_;
  DeviceBuffer buffer_;
};

/// Copies rows of 16-bit elements on the device: to [rows, to_columns], zeros beyond in.cols.
void copy_rows_padded(cuda::Gpu& gpu, const ConstMatrixView& in, std::byte* to,
                      std::int64_t to_columns);

}  // namespace switchyard::gemm
