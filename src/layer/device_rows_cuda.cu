#include <algorithm>

#include "cuda/launch.h"
#include "gemm/tensor_core.h"
#include "layer/device_rows.h"
#include "switchyard/dtype.h"
#include "topk/exp.h"

namespace switchyard {
namespace {

struct Widen {
  static SWITCHYARD_DEVICE float of(float x, float) { return x; }
};
struct Gelu {
  static SWITCHYARD_DEVICE float of(float x, float) {
    return 0.5f * x * (1.0f + gemm::error_function(x * 0.70710678f));
  }
};
struct Multiply {
  static SWITCHYARD_DEVICE float of(float x, float gate) { return gate * x; }
};
struct Sigmoid {
  static SWITCHYARD_DEVICE float of(float x, float) {
    const float e = exp_nonpositive(x >= 0.0f ? -x : x);
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
  }
};

/// out[t, j] = op(x[t, j], gate[t, j]): a thread takes an element, then the one a grid further on.
template <class From, class To, class Op>
struct RowsKernel {
  static constexpr int kThreads = 256;
  struct Args {
    const From* x;
    std::int64_t stride, rows, cols;
    const float* gate;  ///< or null
    To* out;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t count = args.rows * args.cols, step = simt::num_blocks() * kThreads;
    for (std::int64_t i = simt::block_index() * kThreads + simt::thread_index(); i < count;
         i += step) {
      const float x = to_float(args.x[i / args.cols * args.stride + i % args.cols]);
      args.out[i] = from_float<To>(Op::of(x, args.gate != nullptr ? args.gate[i] : 0.0f));
    }
  }
};

template <class From, class To, class Op>
void launch_rows(cuda::Gpu& gpu, const ConstMatrixView& x, const float* gate, void* out) {
  using Kernel = RowsKernel<From, To, Op>;
  const std::int64_t blocks = cuda::ceil_div(x.rows * x.cols, Kernel::kThreads);
  cuda::launch<Kernel>(gpu, std::min(blocks, cuda::kMaxBlocks),
                       {reinterpret_cast<const From*>(x.data), x.row_stride, x.rows, x.cols, gate,
                        static_cast<To*>(out)});
}

}  // namespace

void widen_rows(cuda::Gpu& gpu, const ConstMatrixView& x, float* out) {
  switch (x.dtype) {
    case DType::f32: return launch_rows<float, float, Widen>(gpu, x, nullptr, out);
    case DType::bf16: return launch_rows<bf16, float, Widen>(gpu, x, nullptr, out);
    case DType::f16: return launch_rows<f16, float, Widen>(gpu, x, nullptr, out);
  }
}

void gelu_rows(cuda::Gpu& gpu, const ConstMatrixView& x, const MatrixView& out) {
  switch (out.dtype) {
    case DType::f32: return launch_rows<float, float, Gelu>(gpu, x, nullptr, out.data);
    case DType::bf16: return launch_rows<float, bf16, Gelu>(gpu, x, nullptr, out.data);
    case DType::f16: return launch_rows<float, f16, Gelu>(gpu, x, nullptr, out.data);
  }
}

void multiply_rows(cuda::Gpu& gpu, const ConstMatrixView& x, const float* gate,
                   const MatrixView& out) {
  switch (x.dtype) {
    case DType::f32: return launch_rows<float, float, Multiply>(gpu, x, gate, out.data);
    case DType::bf16: return launch_rows<bf16, bf16, Multiply>(gpu, x, gate, out.data);
    case DType::f16: return launch_rows<f16, f16, Multiply>(gpu, x, gate, out.data);
  }
}

void sigmoid_elements(cuda::Gpu& gpu, float* x, std::int64_t count) {
  launch_rows<float, float, Sigmoid>(
      gpu, {reinterpret_cast<const std::byte*>(x), DType::f32, count, 1, 1, Device::cuda}, nullptr,
      x);
}

}  // namespace switchyard
