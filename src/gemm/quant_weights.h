#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "switchyard/context.h"
#include "switchyard/quant.h"

namespace switchyard::gemm {

/// The integer weights of one projection in stripes of 32 columns (format in quant_kernel.h). With
/// a gate, stripe s holds gate columns [16 s, 16 s + 16) beside up columns of the same numbers.
class QuantWeights {
 public:
  /// Memory for `count` matrices of the shape and format of those of `like`.
  QuantWeights(const QuantizedMatrices& like, std::int64_t count, bool gated);

  /// Puts all of `up` in place from matrix `first` on; `gate` belongs to gated weights only.
  void place(Context& context, std::int64_t first, const QuantizedMatrices* gate,
             const QuantizedMatrices& up);

  QuantFormat format() const noexcept { return format_; }
  std::int64_t columns() const noexcept { return columns_; }  ///< of output
  std::int64_t inputs() const noexcept { return inputs_; }    ///< K
  std::int64_t depth() const noexcept { return depth_; }      ///< K padded
  std::int64_t group() const noexcept { return group_; }      ///< int8: depth
  bool zero_points() const noexcept { return zero_points_; }
  std::int64_t stripes() const noexcept { return stripes_; }
  std::int64_t stripe_bytes() const noexcept { return stripe_bytes_; }
  std::int64_t stripe_outputs() const noexcept { return gated_ ? 16 : 32; }
  std::int64_t bytes() const noexcept { return count_ * stripes_ * stripe_bytes_; }

  const std::byte* stripe(std::int64_t matrix, std::int64_t s) const noexcept {
    return buffer_.data() + (matrix * stripes_ + s) * stripe_bytes_;
  }

 private:
  void place_column(const QuantizedMatrices& from, std::int64_t row, std::int64_t j,
                    std::byte* stripe) const noexcept;

  QuantFormat format_;
  bool gated_, zero_points_;
  std::int64_t count_, columns_, inputs_, group_, depth_, stripes_, stripe_bytes_;
  Buffer buffer_;
};

}  // namespace switchyard::gemm
