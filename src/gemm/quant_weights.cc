#include "gemm/quant_weights.h"

#include <algorithm>
#include <cstring>

#include "base/context.h"
#include "gemm/panel.h"
#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"

namespace switchyard::gemm {
namespace {

std::int64_t stripe_bytes_of(QuantFormat format, std::int64_t depth, std::int64_t group,
                             bool zero_points) {
  if (format == QuantFormat::int8) return depth * kStripeColumns + kStripeColumns * 4;
  return Int4Stripe(depth, group, zero_points).bytes;
}

}  // namespace

QuantWeights::QuantWeights(const QuantizedMatrices& like, std::int64_t count, bool gated)
    : format_(like.format),
      gated_(gated),
      zero_points_(!like.zeros.empty()),
      count_(count),
      columns_(like.rows),
      inputs_(like.cols),
      group_(like.group),
      depth_(round_up(inputs_, format_ == QuantFormat::int8 ? kQuantDepthUnit : kInt4DepthUnit)),
      stripes_(round_up(columns_, kStripeColumns) / stripe_outputs()) {
  if (format_ == QuantFormat::int8) group_ = depth_;
  stripe_bytes_ = stripe_bytes_of(format_, depth_, group_, zero_points_);
  buffer_.reserve(bytes());
}

void QuantWeights::place(Context& context, std::int64_t first, const QuantizedMatrices* gate,
                         const QuantizedMatrices& up) {
  pool_of(context).for_each(up.count * stripes_, [&](std::int64_t task, int) {
    const std::int64_t matrix = task / stripes_, s = task % stripes_;
    std::byte* stripe = buffer_.data() + (first * stripes_ + task) * stripe_bytes_;
    // Scales of 0 make columns and depths beyond the matrix vanish, whatever their codes.
    std::memset(stripe, 0, static_cast<std::size_t>(stripe_bytes_));
    for (std::int64_t j = 0; j < kStripeColumns; ++j) {
      const bool is_up = !gated_ || j >= 16;
      const std::int64_t column = s * stripe_outputs() + (gated_ ? j % 16 : j);
      if (column >= columns_) continue;
      place_column(is_up ? up : *gate, matrix * columns_ + column, j, stripe);
    }
  });
}

void QuantWeights::place_column(const QuantizedMatrices& from, std::int64_t row, std::int64_t j,
                                std::byte* stripe) const noexcept {
  if (format_ == QuantFormat::int8) {
    auto* codes = reinterpret_cast<std::uint8_t*>(stripe);
    const std::uint8_t* values = from.values.data() + row * inputs_;
    for (std::int64_t k = 0; k < inputs_; ++k) {
      codes[k / 64 * 2048 + j / 16 * 1024 + k % 64 / 4 * 64 + j % 16 * 4 + k % 4] = values[k];
    }
    const float scale = from.scales[static_cast<std::size_t>(row)];
    std::memcpy(stripe + depth_ * kStripeColumns + j * 4, &scale, sizeof scale);
    return;
  }
  const Int4Stripe parts(depth_, group_, zero_points_);
  auto* codes = reinterpret_cast<std::uint8_t*>(stripe + parts.codes);
  const std::uint8_t* values = from.values.data() + row * ((inputs_ + 1) / 2);
  for (std::int64_t k = 0; k < inputs_; ++k) {
    const unsigned code = values[k / 2] >> (k % 2 * 4) & 15u;
    codes[k / 8 * 128 + j / 16 * 64 + j % 16 * 4 + k % 4] |=
        static_cast<std::uint8_t>(code << (k % 8 / 4 * 4));
  }
  std::byte* scales = stripe + parts.scales;
  std::byte* zeros = stripe + parts.zeros;
  for (std::int64_t g = 0; g < from.groups(); ++g) {
    const auto i = static_cast<std::size_t>(row * from.groups() + g);
    const f16 scale = from_float<f16>(from.scales[i]);
    std::memcpy(scales + (g * kStripeColumns + j) * 2, &scale, sizeof scale);
    if (zero_points_) zeros[g * kStripeColumns + j] = std::byte{from.zeros[i]};
  }
}

}  // namespace switchyard::gemm
