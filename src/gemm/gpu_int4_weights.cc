#include "gemm/gpu_int4_weights.h"

#include <cstring>
#include <vector>

#include "base/context.h"
#include "cuda/gpu.h"
#include "gemm/int4_layout.h"

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kStep = 64;  // of depth, that a record holds

/// Packed column n of `record`, for `row` of all rows of `from`, depths from `begin` on.
void place_column(const QuantizedMatrices& from, std::int64_t row, std::int64_t begin, int n,
                  std::byte* record) {
  const std::uint8_t* values = from.values.data() + row * ((from.cols + 1) / 2);
  const std::int64_t end = std::min(from.cols, begin + kStep);
  for (std::int64_t k = begin; k < end; ++k) {
    const unsigned code = values[k / 2] >> (k % 2 * 4) & 15u;
    const CodePlace place = code_place(n, static_cast<int>(k - begin));
    record[place.byte] |= static_cast<std::byte>(code << place.shift);
  }
  for (int half = 0; half < 2; ++half) {
    const std::int64_t k = begin + half * 32;
    if (k >= from.cols) break;
    const auto i = static_cast<std::size_t>(row * from.groups() + k / from.group);
    const f16 scale = from_float<f16>(from.scales[i]);
    std::memcpy(record + kScalesAt + half * 32 + n * 2, &scale, sizeof scale);
    if (!from.zeros.empty()) record[kZerosAt + half * 16 + n] = std::byte{from.zeros[i]};
  }
}

}  // namespace

GpuInt4Weights::GpuInt4Weights(Context& context, const QuantizedMatrices& like, std::int64_t count,
                               bool gated)
    : gated_(gated),
      zero_points_(!like.zeros.empty()),
      columns_(like.rows),
      inputs_(like.cols),
      packed_columns_(gemm::packed_columns(columns_, gated)),
      depth_((inputs_ + 7) / 8 * 8),
      matrix_bytes_(packed_columns_ / kRecordColumns * ((inputs_ + kStep - 1) / kStep) *
                    record_bytes(zero_points_)) {
  buffer_.reserve(context, count * matrix_bytes_);
}

void GpuInt4Weights::place(Context& context, std::int64_t first, const QuantizedMatrices* gate,
                           const QuantizedMatrices& up) {
  const std::int64_t steps = (inputs_ + kStep - 1) / kStep;
  const std::int64_t bytes = record_bytes(zero_points_);
  std::vector<std::byte> packed(static_cast<std::size_t>(matrix_bytes_));
  for (std::int64_t matrix = 0; matrix < up.count; ++matrix) {
    // Scales of 0 make columns and depths beyond the matrix vanish, whatever their codes.
    std::fill(packed.begin(), packed.end(), std::byte{0});
    pool_of(context).for_each(packed_columns_ / kRecordColumns, [&](std::int64_t block, int) {
      for (int n = 0; n < kRecordColumns; ++n) {
        const PackedColumn at = packed_column(block * kRecordColumns + n, gated_);
        if (at.column >= columns_) continue;
        const QuantizedMatrices& from = at.is_gate ? *gate : up;
        for (std::int64_t step = 0; step < steps; ++step) {
          place_column(from, matrix * columns_ + at.column, step * kStep, n,
                       packed.data() + (block * steps + step) * bytes);
        }
      }
    });
    cuda::Gpu& gpu = cuda::gpu_of(context);
    gpu.copy_to_device(const_cast<std::byte*>(data()) + (first + matrix) * matrix_bytes_,
                       packed.data(), matrix_bytes_);
    gpu.synchronize();
  }
}

}  // namespace switchyard::gemm
