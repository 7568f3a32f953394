#include "gemm/gpu_ffn.h"

#include <cstdint>

#include "gemm/gpu_kernels.h"
#include "gemm/grouped_args.h"

namespace switchyard::gemm {
namespace {

bool is_aligned(const void* data, std::int64_t row_bytes) {
  return (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(row_bytes)) % 16 ==
         0;
}

}  // namespace

GpuProblem problem_on(const cuda::GpuInfo& gpu, int num_experts, std::int64_t rows,
                      std::int64_t columns, std::int64_t depth) {
  GpuProblem p;
  p.num_experts = num_experts;
  p.rows = rows;
  p.columns = columns;
  p.depth = depth;
  p.arch = gpu.major * 10 + gpu.minor;
  p.multiprocessors = gpu.multiprocessors;
  p.l2_bytes = gpu.l2_bytes;
  // The driver keeps 1 KiB of each CTA's for itself; one CTA may have all the rest.
  p.shared_per_sm = static_cast<int>(gpu.shared_bytes_per_block) + 1024;
  return p;
}

namespace {

void run_product(cuda::Gpu& gpu, const GpuWeights& weights, DType element, GroupedArgs& args,
                 std::int64_t num_rows) {
  args.weights = weights.data();
  const GpuConfig config = choose_config(
      problem_on(gpu.info(), args.grid.num_experts, num_rows, args.packed_columns, args.depth));
  args.grid = config.grid;
  if (config.tile == GpuTile::wide) {
    launch_grouped_wgmma(gpu, config, element, args);
  } else {
    launch_grouped_mma(gpu, config, element, args);
  }
}

void run_product(cuda::Gpu& gpu, const GpuInt4Weights& weights, DType element, GroupedArgs& args,
                 std::int64_t num_rows) {
  args.weights = weights.data();
  args.zero_points = weights.zero_points();
  GpuProblem problem =
      problem_on(gpu.info(), args.grid.num_experts, num_rows, args.packed_columns, args.depth);
  problem.integer_weights = true;
  const GpuConfig config = choose_config(problem);
  args.grid = config.grid;
  launch_grouped_int4(gpu, config, element, args);
}

template <class Weights>
void product(cuda::Gpu& gpu, const Weights& weights, DType element, GroupedArgs args,
             std::int64_t num_rows) {
  args.packed_columns = weights.packed_columns();
  args.depth = weights.depth();
  args.out_is_aligned = is_aligned(args.out, args.out_row_bytes);
  run_product(gpu, weights, element, args, num_rows);
}

}  // namespace

GpuFfn<GpuWeights> make_gpu_ffn(Context& context, const ExpertWeights& weights) {
  return {GpuWeights(context, weights.gate, weights.up),
          GpuWeights(context, {}, weights.down),
          weights.up.cols,
          weights.is_gated(),
          weights.activation,
          weights.up.dtype};
}

template <class Weights>
void GpuFfn<Weights>::forward(Context& context, const GpuRows& rows, const ConstMatrixView& in,
                              const MatrixView& out) const {
  if (rows.rows == 0) return;
  cuda::Gpu& gpu = cuda::gpu_of(context);
  cuda::DeviceScope scope(gpu);
  GroupedArgs args;
  args.grid.num_experts = rows.num_experts;
  args.expert_begin = rows.expert_begin;
  args.expert_rows = rows.expert_rows;

  args.token_of_row = rows.token_of_row;
  args.in = in.data;
  args.in_row_bytes = in.row_stride * 2;
  if (!is_aligned(args.in, args.in_row_bytes) || in.cols != up_.depth()) {
    std::byte* aligned = scope.take<std::byte>(in.rows * up_.depth() * 2);
    copy_rows_padded(gpu, in, aligned, up_.depth());
    args.in = aligned;
    args.in_row_bytes = up_.depth() * 2;
  }
  // Columns up to the next product's depth have zero weights, and so hold act(0) * 0 = 0.
  std::byte* between = scope.take<std::byte>(rows.rows * down_.depth() * 2);
  args.out = between;
  args.out_row_bytes = down_.depth() * 2;
  args.columns = down_.depth();
  args.gated = gated_;
  args.activated = true;
  args.activation = activation_;
  product(gpu, up_, element_, args, rows.expected);

  args.token_of_row = nullptr;
  args.in = between;
  args.in_row_bytes = down_.depth() * 2;
  args.out = out.data;
  args.out_row_bytes = out.row_stride * 2;
  args.columns = hidden_;
  args.gated = args.activated = false;
  product(gpu, down_, element_, args, rows.expected);
}

template class GpuFfn<GpuWeights>;
template class GpuFfn<GpuInt4Weights>;

}  // namespace switchyard::gemm
