#include "switchyard/combine.h"

#include <algorithm>

#include "base/check.h"
#include "base/context.h"
#include "base/cpu.h"
#include "combine/combine_device.h"
#include "combine/combine_impl.h"
#include "combine/combine_kernel.h"
#include "cuda/gpu.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

// A thread's share: below this, waking it costs more than summing.
constexpr std::int64_t kGrainBytes = 32 * 1024;
// What a thread takes at once, unless its share is less: a piece's first rows are not fetched
// ahead.
constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;

// What is fetched of the next token's rows into L1, beside this one's. Where prefetches into L2
// take no line buffers of L1 only short rows are, for which a token is not ahead enough: 2 rows of
// 8 KiB a token in 0.83 of the time from L2, of 2 KiB in 0.95 (Zen 4, 2 threads).
constexpr std::int64_t kNearBytes = 16 * 1024, kNearBytesWhereL2IsFree = 2 * 1024;

struct Variant {
  Isa isa;
  DType dtype;
  CombineKernel* kernel;
};

constexpr Variant kVariants[] = {
#define SWITCHYARD_COMBINE_KERNEL(isa, dtype, kernel) {Isa::isa, DType::dtype, kernel},
#include "combine/kernels.inc"
#undef SWITCHYARD_COMBINE_KERNEL
};

const Variant& variant_for(const Context& context, DType dtype) noexcept {
  return *std::ranges::find_if(
      kVariants, [&](const Variant& v) { return v.isa <= context.isa() && v.dtype == dtype; });
}

}  // namespace

Isa combine_isa(const Context& context) noexcept { return variant_for(context, DType::f32).isa; }

void combine(Context& context, const DispatchPlan& plan, ConstMatrixView rows, MatrixView out,
             bool accumulate) {
  require_shape("out", out, plan.num_tokens, out.cols);
  require_shape("rows", rows, plan.num_rows(), out.cols);
  require(rows.dtype == out.dtype, "rows is {}: expected {} as out", name_of(rows.dtype),
          name_of(out.dtype));
  if (out.cols == 0 || plan.num_tokens == 0) return;
  const auto element = static_cast<std::int64_t>(size_of(out.dtype));
  // As in pack: with two rows per token that read would be a quarter of the traffic.
  const bool bypass_cache =
      (plan.num_rows() + plan.num_tokens) * out.cols * element > cache_sizes().l3 / 2;
  const CombineRows job = {
      rows.data,
      rows.row_stride * element,
      plan.token_begin.data(),
      plan.row_of_assignment.data(),
      plan.weight_of_assignment.data(),
      out.data,
      out.row_stride * element,
      out.cols,
      accumulate,
      bypass_cache,
      cpu_features().prefetch_spares_l1 ? kNearBytesWhereL2IsFree : kNearBytes};
  // Bytes a token moves: its rows in, itself out.
  const std::int64_t rows_per_token = 1 + plan.token_begin.back() / plan.num_tokens;
  const std::int64_t token_bytes = rows_per_token * out.cols * element;
  CombineKernel* const kernel = variant_for(context, out.dtype).kernel;
  const auto sum = [&](std::int64_t begin, std::int64_t end, int) { kernel(job, begin, end); };
  if (plan.num_tokens * token_bytes <= kGrainBytes) return sum(0, plan.num_tokens, 0);
  pool_of(context).for_pieces(plan.num_tokens, kPieceBytes / token_bytes, sum);
}

void combine(Context& context, const DevicePlan& plan, ConstMatrixView rows, MatrixView out,
             bool accumulate) {
  require_shape("out", out, plan.num_tokens, out.cols, Device::cuda);
  require(rows.rows >= plan.max_rows, "rows has {} rows: expected at least max_rows, {}", rows.rows,
          plan.max_rows);
  require_shape("rows", rows, rows.rows, out.cols, Device::cuda);
  require(rows.dtype == out.dtype, "rows is {}: expected {} as out", name_of(rows.dtype),
          name_of(out.dtype));
  if (out.cols == 0 || plan.num_tokens == 0) return;
  const auto element = static_cast<std::int64_t>(size_of(out.dtype));
  combine_on_device(cuda::gpu_of(context), out.dtype, plan.num_tokens,
                    {rows.data, rows.row_stride * element, plan.token_begin, plan.row_of_assignment,
                     plan.weight_of_assignment, out.data, out.row_stride * element, out.cols,
                     accumulate, false, 0});
}

}  // namespace switchyard
