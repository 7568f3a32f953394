#include "switchyard/pack.h"

#include <algorithm>

#include "base/check.h"
#include "base/context.h"
#include "base/cpu.h"
#include "pack/pack_impl.h"
#include "pack/pack_kernel.h"

namespace switchyard {
namespace {

// A thread's share: below this, waking it costs more than copying.
constexpr std::int64_t kGrainBytes = 32 * 1024;

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

}  // namespace

Isa pack_isa(const Context& context) noexcept { return variant_for(context).isa; }

void pack(Context& context, const DispatchPlan& plan, ConstMatrixView x, MatrixView rows) {
  require_shape("x", x, plan.num_tokens, x.cols);
  require_shape("rows", rows, plan.num_rows(), x.cols);
  require(rows.dtype == x.dtype, "rows is {}: expected {} as x", name_of(rows.dtype),
          name_of(x.dtype));
  const auto element = static_cast<std::int64_t>(size_of(x.dtype));
  const std::int64_t row_bytes = x.cols * element;
  if (row_bytes == 0) return;
  // Streaming stores spare the read of each line that is about to be overwritten, which the caches
  // could not keep anyway: a third less time for 32768 rows of 8 KiB (AVX-512, 1 and 2 threads).
  const bool bypass_cache = plan.num_rows() * row_bytes > cache_sizes().l3;
  const PackRows job = {x.data,      x.row_stride * element,    plan.token_of_row.data(),
                        rows.data,   rows.row_stride * element, row_bytes,
                        bypass_cache};
  const std::int64_t grain = std::max<std::int64_t>(1, kGrainBytes / row_bytes);
  PackKernel* const kernel = variant_for(context).kernel;
  pool_of(context).for_ranges(
      plan.num_rows(), grain,
      [&](std::int64_t begin, std::int64_t end, int) { kernel(job, begin, end); });
}

}  // namespace switchyard
