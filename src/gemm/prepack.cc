#include "gemm/prepack.h"

#include <cstring>

#include "base/context.h"
#include "gemm/gemm_kernel.h"
#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

// Element (k, j) of a stripe.
template <class T>
std::int64_t stripe_index(std::int64_t k, std::int64_t j) noexcept {
  if constexpr (std::is_same_v<T, bf16>) {
    return k / kDepthUnit * 1024 + j / 16 * 512 + k % kDepthUnit / 2 * 32 + j % 16 * 2 + k % 2;
  } else {
    return k * kStripeColumns + j;
  }
}

// Copies row `from` of a weight matrix to column j of a stripe.
template <class T>
void place_column(const std::byte* from, std::int64_t depth, std::int64_t j, T* stripe) noexcept {
  const auto* row = reinterpret_cast<const T*>(from);
  for (std::int64_t k = 0; k < depth; ++k) stripe[stripe_index<T>(k, j)] = row[k];
}

void place_column(DType dtype, const std::byte* from, std::int64_t depth, std::int64_t j,
                  std::byte* stripe) noexcept {
  switch (dtype) {
    case DType::f32: return place_column(from, depth, j, reinterpret_cast<float*>(stripe));
    case DType::bf16: return place_column(from, depth, j, reinterpret_cast<bf16*>(stripe));
    case DType::f16: return place_column(from, depth, j, reinterpret_cast<f16*>(stripe));
  }
}

}  // namespace

PackedWeights::PackedWeights(Context& context, const ConstMatricesView& weights)
    : dtype_(weights.dtype),
      gated_(false),
      count_(weights.count),
      depth_(weights.cols),
      columns_(weights.rows) {
  pack(context, weights, weights);
}

PackedWeights::PackedWeights(Context& context, const ConstMatricesView& gate,
                             const ConstMatricesView& up)
    : dtype_(up.dtype), gated_(true), count_(up.count), depth_(up.cols), columns_(up.rows) {
  pack(context, gate, up);
}

void PackedWeights::pack(Context& context, const ConstMatricesView& first,
                         const ConstMatricesView& second) {
  // Outputs feed a panel padded to 32 columns: an odd number of gated stripes would leave half of
  // the last unit unwritten.
  stripes_ = round_up(columns_, kDepthUnit) / stripe_outputs();
  stripe_bytes_ =
      round_up(depth_, kDepthUnit) * kStripeColumns * static_cast<std::int64_t>(size_of(dtype_));
  buffer_.reserve(bytes());
  pool_of(context).for_each(count_ * stripes_, [&](std::int64_t task, int) {
    const std::int64_t matrix = task / stripes_, s = task % stripes_;
    std::byte* stripe = buffer_.data() + task * stripe_bytes_;
    std::memset(stripe, 0, static_cast<std::size_t>(stripe_bytes_));
    for (std::int64_t j = 0; j < kStripeColumns; ++j) {
      const bool is_second = gated_ && j >= 16;
      const std::int64_t column = s * stripe_outputs() + (is_second ? j - 16 : j);
      if (column >= columns_) continue;
      const ConstMatrixView source = (is_second ? second : first)[matrix];
      place_column(dtype_, source.row(column), depth_, j, stripe);
    }
  });
}

}  // namespace switchyard::gemm
