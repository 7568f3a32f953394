#include "switchyard/pack.h"

#include <algorithm>

#include "base/check.h"
#include "base/context.h"
#include "base/cpu.h"
#include "cuda/gpu.h"
#include "pack/pack_device.h"
#include "pack/pack_impl.h"
#include "pack/pack_kernel.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

// A thread's share: below this, waking it costs more than copying.
constexpr std::int64_t kGrainBytes = 32 * 1024;
// What a thread takes at once, unless its share is less.
constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;

struct Variant {
  Isa isa;
  PackKernel* kernel;
};

constexpr Variant kVariants[] = {
#define SWITCHYARD_PACK_KERNEL(isa, kernel) {Isa::isa, kernel},
#include "pack/kernels.inc"
#undef SWITCHYARD_PACK_KERNEL
};

const Variant& variant_for(const Context& context) noexcept {
  return *std::ranges::find_if(kVariants, [&](const Variant& v) { return v.isa <= context.isa(); });
}

void require_alike(ConstMatrixView x, MatrixView rows) {
  require(rows.dtype == x.dtype, "rows is {}: expected {} as x", name_of(rows.dtype),
          name_of(x.dtype));
}

std::int64_t row_bytes_of(ConstMatrixView x) noexcept {
  return x.cols * static_cast<std::int64_t>(size_of(x.dtype));
}

/// Whether the plan says where tokens go, as make_plan's do, and not only where rows come from.
bool has_tokens(const DispatchPlan& plan) noexcept {
  return plan.num_tokens > 0 && std::ssize(plan.token_begin) == plan.num_tokens + 1 &&
         plan.token_begin.back() == std::ssize(plan.row_of_assignment);
}

PackRows job_of(ConstMatrixView x, MatrixView rows) noexcept {
  const auto element = static_cast<std::int64_t>(size_of(x.dtype));
  const std::int64_t row_bytes = row_bytes_of(x);
  // Streaming stores spare the read of each line that is about to be overwritten, which the caches
  // could not keep anyway: a third less time for 32768 rows of 8 KiB (AVX-512, 1 and 2 threads).
  // Half of the last level, since it is shared.
  const bool bypass_cache = (x.rows + rows.rows) * row_bytes > cache_sizes().l3 / 2;
  return {.in = x.data,
          .in_stride = x.row_stride * element,
          .token_of_row = nullptr,
          .out = rows.data,
          .out_stride = rows.row_stride * element,
          .row_bytes = row_bytes,
          .bypass_cache = bypass_cache};
}

}  // namespace

Isa pack_isa(const Context& context) noexcept { return variant_for(context).isa; }

void pack(Context& context, const DispatchPlan& plan, ConstMatrixView x, MatrixView rows) {
  require_shape("x", x, plan.num_tokens, x.cols);
  require_shape("rows", rows, plan.num_rows(), x.cols);
  require_alike(x, rows);
  const std::int64_t row_bytes = row_bytes_of(x);
  if (row_bytes == 0) return;
  if (!has_tokens(plan)) {
    PackRows job = job_of(x, rows);
    job.token_of_row = plan.token_of_row.data();
    const std::int64_t grain = std::max<std::int64_t>(1, kGrainBytes / row_bytes);
    PackKernel* const kernel = variant_for(context).kernel;
    return pool_of(context).for_ranges(
        plan.num_rows(), grain,
        [&](std::int64_t begin, std::int64_t end, int) { kernel(job, begin, end); });
  }
  // By tokens: a row that goes to K places is read once, and reads follow each other in memory. A
  // quarter less time for K = 2 and rows of 8 KiB.
  const TokenPacker packer(context, x, rows);
  const std::int64_t rows_per_token = 1 + plan.num_rows() / plan.num_tokens;
  const std::int64_t token_bytes = rows_per_token * row_bytes;
  const auto pack_tokens = [&](std::int64_t begin, std::int64_t end, int) {
    packer.pack(plan, begin, end);
  };
  if (plan.num_tokens * token_bytes <= kGrainBytes) {
    pack_tokens(0, plan.num_tokens, 0);
  } else {
    pool_of(context).for_pieces(plan.num_tokens, kPieceBytes / token_bytes, pack_tokens);
  }
  packer.clear_padding(context, plan);
}

void pack(Context& context, const DevicePlan& plan, ConstMatrixView x, MatrixView rows) {
  require_shape("x", x, plan.num_tokens, x.cols, Device::cuda);
  require(rows.rows >= plan.max_rows, "rows has {} rows: expected at least max_rows, {}", rows.rows,
          plan.max_rows);
  require_shape("rows", rows, rows.rows, x.cols, Device::cuda);
  require_alike(x, rows);
  const PackRows job = job_of(x, rows);
  if (job.row_bytes == 0 || plan.max_rows == 0) return;
  pack_on_device(cuda::gpu_of(context), {.in = job.in,
                                         .in_stride = job.in_stride,
                                         .token_of_row = plan.token_of_row,
                                         .num_rows = plan.expert_begin + plan.num_experts,
                                         .max_rows = plan.max_rows,
                                         .out = job.out,
                                         .out_stride = job.out_stride,
                                         .row_bytes = job.row_bytes});
}

TokenPacker::TokenPacker(Context& context, ConstMatrixView x, MatrixView rows)
    : job_(job_of(x, rows)), kernel_(variant_for(context).kernel) {
  require_shape("x", x, x.rows, x.cols);
  require_shape("rows", rows, rows.rows, x.cols);
  require_alike(x, rows);
}

void TokenPacker::pack(const DispatchPlan& plan, std::int64_t begin,
                       std::int64_t end) const noexcept {
  constexpr std::int64_t kMost = 64;
  std::int32_t token[kMost], row[kMost];
  PackRows job = job_;
  job.token_of_row = token;
  job.row_of_copy = row;
  std::int64_t count = 0;
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t last = plan.token_begin[static_cast<std::size_t>(t) + 1];
    for (auto a = plan.token_begin[static_cast<std::size_t>(t)]; a < last; ++a) {
      const std::int32_t to = plan.row_of_assignment[static_cast<std::size_t>(a)];
      if (to < 0) continue;
      token[count] = static_cast<std::int32_t>(t);
      row[count] = to;
      if (++count < kMost) continue;
      kernel_(job, 0, count);
      count = 0;
    }
  }
  kernel_(job, 0, count);
}

void TokenPacker::clear_padding(Context& context, const DispatchPlan& plan) const noexcept {
  if (plan.layout != Layout::capacity && plan.layout != Layout::block) return;
  PackRows job = job_;
  job.token_of_row = plan.token_of_row.data();
  pool_of(context).for_each(plan.num_experts, [&](std::int64_t expert, int) {
    const auto e = static_cast<std::size_t>(expert);
    kernel_(job, plan.expert_begin[e] + plan.expert_rows[e], plan.expert_begin[e + 1]);
  });
}

}  // namespace switchyard
