#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard::gemm {

/// The weights of one projection, [E, N, K], in stripes of 32 columns (format in gemm_kernel.h),
/// each stripe contiguous, stripes of an expert in a row. N and K are padded with zeros. With a
/// gate, stripe s holds gate columns [16 s, 16 s + 16) beside up columns of the same numbers, so
/// that one pass yields both factors of the activation.
class PackedWeights {
 public:
  PackedWeights() = default;
  PackedWeights(Context& context, const ConstMatricesView& weights);
  PackedWeights(Context& context, const ConstMatricesView& gate, const ConstMatricesView& up);

  DType dtype() const noexcept { return dtype_; }
  std::int64_t depth() const noexcept { return depth_; }      ///< K
  std::int64_t columns() const noexcept { return columns_; }  ///< N; of gate and of up when gated
  std::int64_t stripes() const noexcept { return stripes_; }
  std::int64_t stripe_bytes() const noexcept { return stripe_bytes_; }
  std::int64_t bytes() const noexcept { return count_ * stripes_ * stripe_bytes_; }
  /// Columns of output that one stripe gives: 16 when gated, else 32.
  std::int64_t stripe_outputs() const noexcept { return gated_ ? 16 : 32; }

  const std::byte* stripe(std::int64_t matrix, std::int64_t s) const noexcept {
    return buffer_.data() + (matrix * stripes_ + s) * stripe_bytes_;
  }

 private:
  void pack(Context& context, const ConstMatricesView& first, const ConstMatricesView& second);

  DType dtype_ = DType::f32;
  bool gated_ = false;
  std::int64_t count_ = 0;
  std::int64_t depth_ = 0;
  std::int64_t columns_ = 0;
  std::int64_t stripes_ = 0;
  std::int64_t stripe_bytes_ = 0;
  Buffer buffer_;
};

}  // namespace switchyard::gemm
