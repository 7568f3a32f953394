#include <cstring>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/launch.h"
#include "gemm/gpu_weights.h"
#include "gemm/mma_layout.h"

namespace switchyard::gemm {
namespace {

using Element = std::uint16_t;

/// A thread writes 8 elements of a packed column.
struct PackColumns {
  static constexpr int kThreads = 256;
  struct Args {
    const Element* gate;  // null: not gated
    const Element* up;
    std::int64_t gate_stride, up_stride;  // elements from row to row
    std::int64_t columns, inputs;
    std::int64_t packed_columns, depth;
    Element* out;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t chunks = args.depth / 8;
    const std::int64_t i = simt::block_index() * kThreads + simt::thread_index();
    if (i >= args.packed_columns * chunks) return;
    const std::int64_t packed = i / chunks, first = i % chunks * 8;
    const PackedColumn from = packed_column(packed, args.gate != nullptr);
    const Element* row = from.is_gate ? args.gate + from.column * args.gate_stride
                                      : args.up + from.column * args.up_stride;
    for (std::int64_t k = first; k < first + 8; ++k) {
      const bool exists = from.column < args.columns && k < args.inputs;
      args.out[packed * args.depth + k] = exists ? row[k] : Element{0};
    }
  }
};

/// A thread writes 8 elements of a row.
struct CopyRows {
  static constexpr int kThreads = 256;
  struct Args {
    const Element* in;
    std::int64_t stride, rows, columns, to_columns;
    Element* out;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t chunks = (args.to_columns + 7) / 8;
    const std::int64_t i = simt::block_index() * kThreads + simt::thread_index();
    if (i >= args.rows * chunks) return;
    const std::int64_t row = i / chunks, first = i % chunks * 8;
    for (std::int64_t k = first; k < first + 8 && k < args.to_columns; ++k) {
      args.out[row * args.to_columns + k] =
          k < args.columns ? args.in[row * args.stride + k] : Element{0};
    }
  }
};

/// A matrix on the device: where it is, or a dense copy in scratch.
struct OnDevice {
  const Element* data = nullptr;
  std::int64_t stride = 0;
};

OnDevice on_device(cuda::Gpu& gpu, cuda::DeviceScope& scope, const ConstMatrixView& matrix) {
  if (matrix.device == Device::cuda) {
    return {reinterpret_cast<const Element*>(matrix.data), matrix.row_stride};
  }
  const auto row_bytes = static_cast<std::size_t>(matrix.cols) * sizeof(Element);
  std::vector<std::byte> dense(static_cast<std::size_t>(matrix.rows) * row_bytes);
  for (std::int64_t r = 0; r < matrix.rows; ++r) {
    std::memcpy(dense.data() + static_cast<std::size_t>(r) * row_bytes, matrix.row(r), row_bytes);
  }
  auto* copy = scope.take<Element>(matrix.rows * matrix.cols);
  gpu.copy_to_device(copy, dense.data(), std::ssize(dense));
  gpu.synchronize();
  return {copy, matrix.cols};
}

}  // namespace

GpuWeights::GpuWeights(Context& context, const ConstMatricesView& gate, const ConstMatricesView& up)
    : packed_columns_(gemm::packed_columns(up.rows, gate.data != nullptr)),
      depth_((up.cols + 7) / 8 * 8) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  auto* out =
      reinterpret_cast<Element*>(buffer_.reserve(context, up.count * packed_columns_ * depth_ * 2));
  for (std::int64_t e = 0; e < up.count; ++e) {
    cuda::DeviceScope scope(gpu);
    const OnDevice u = on_device(gpu, scope, up[e]);
    const OnDevice g = gate.data != nullptr ? on_device(gpu, scope, gate[e]) : OnDevice{};
    cuda::launch<PackColumns>(gpu,
                              cuda::ceil_div(packed_columns_ * depth_ / 8, PackColumns::kThreads),
                              {g.data, u.data, g.stride, u.stride, up.rows, up.cols,
                               packed_columns_, depth_, out + e * packed_columns_ * depth_});
  }
  gpu.synchronize();
}

DenseWeights::DenseWeights(Context& context, const ConstMatricesView& weights)
    : count_(weights.count) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const std::int64_t bytes = weights.rows * weights.cols * 2;
  std::byte* out = buffer_.reserve(context, weights.count * bytes);
  for (std::int64_t e = 0; e < weights.count; ++e) {
    cuda::DeviceScope scope(gpu);
    ConstMatrixView from = weights[e];
    const OnDevice there = on_device(gpu, scope, from);
    from.data = reinterpret_cast<const std::byte*>(there.data);
    from.row_stride = there.stride;
    copy_rows_padded(gpu, from, out + e * bytes, weights.cols);
  }
  gpu.synchronize();
}

void copy_rows_padded(cuda::Gpu& gpu, const ConstMatrixView& in, std::byte* to,
                      std::int64_t to_columns) {
  cuda::launch<CopyRows>(
      gpu, cuda::ceil_div(in.rows * cuda::ceil_div(to_columns, 8), CopyRows::kThreads),
      {reinterpret_cast<const Element*>(in.data), in.row_stride, in.rows, in.cols, to_columns,
       reinterpret_cast<Element*>(to)});
}

}  // namespace switchyard::gemm
