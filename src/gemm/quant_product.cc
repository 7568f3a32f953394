#include "gemm/quant_product.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/context.h"
#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

#define SWITCHYARD_QUANT_ROW_KERNEL(isa, element)
#define SWITCHYARD_QUANT_KERNEL(isa, weights, panel, min_rows) \
  QuantKernel{Isa::isa,                                        \
              QuantFormat::weights,                            \
              std::string_view(#panel) == "bf16",              \
              min_rows,                                        \
              quant_##weights##_##panel##_##isa,               \
              Isa::isa == Isa::amx_bf16 ? kTilesOn : nullptr,  \
              Isa::isa == Isa::amx_bf16 ? kTilesOff : nullptr},
#if defined(SWITCHYARD_X86_KERNELS)
constexpr ThreadStateFn kTilesOn = amx_begin, kTilesOff = amx_end;
#else
constexpr ThreadStateFn kTilesOn = nullptr, kTilesOff = nullptr;
#endif
constexpr QuantKernel kKernels[] = {
#include "gemm/quant_kernels.inc"
};
#undef SWITCHYARD_QUANT_KERNEL
#undef SWITCHYARD_QUANT_ROW_KERNEL

struct RowKernel {
  Isa isa;
  DType element;
  RowFn run;
};

#define SWITCHYARD_QUANT_KERNEL(isa, weights, panel, min_rows)
#define SWITCHYARD_QUANT_ROW_KERNEL(isa, element) \
  {Isa::isa, DType::element, quant_row_##element##_##isa},
constexpr RowKernel kRowKernels[] = {
#include "gemm/quant_kernels.inc"
};
#undef SWITCHYARD_QUANT_KERNEL
#undef SWITCHYARD_QUANT_ROW_KERNEL

// Of the kernels for `format` that the context may run: the fastest one, and after it those that
// serve fewer rows.
std::vector<const QuantKernel*> choose_kernels(Isa cap, QuantFormat format) {
  std::vector<const QuantKernel*> chosen;
  for (const QuantKernel& kernel : kKernels) {
    if (kernel.isa > cap || kernel.weights != format) continue;
    chosen.push_back(&kernel);
    if (kernel.min_rows == 1) return chosen;
  }
  return chosen;
}

// Bytes [k_begin, k_end) of rows of activations as the bf16 tiles of gemm_kernel.h, whole tiles.
void fill_tiles(const std::int8_t* from, std::int64_t stride, std::int64_t rows,
                std::int64_t k_begin, std::int64_t k_end, bf16* tiles) noexcept {
  const std::int64_t tile_stride = kTileRows * (k_end - k_begin);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int8_t* row = from + r * stride;
    bf16* to = tiles + r / kTileRows * tile_stride + r % kTileRows * kDepthUnit;
    for (std::int64_t k = k_begin; k < k_end; k += kDepthUnit, to += kTileRows * kDepthUnit) {
      // Integers up to 127 fill 7 of bf16's 8 bits of precision: truncating loses nothing.
      for (std::int64_t i = 0; i < kDepthUnit; ++i) {
        to[i].bits = static_cast<std::uint16_t>(
            std::bit_cast<std::uint32_t>(static_cast<float>(row[k + i])) >> 16);
      }
    }
  }
}

}  // namespace

std::span<const QuantKernel> quant_kernels() noexcept { return kKernels; }

RowFn find_quant_row(Isa cap, DType element) noexcept {
  for (const RowKernel& kernel : kRowKernels) {
    if (kernel.isa <= cap && kernel.element == element) return kernel.run;
  }
  return nullptr;  // unreachable: the portable lines take every dtype
}

struct QuantProduct::Call {
  const QuantRows& in;
  const std::int32_t* row_index;
  EpilogueFn epilogue;
  const MatrixView& out;
  // Offsets of a thread's scratch: rows gathered, their scales and sums, bf16 tiles, widened
  // stripe, accumulators.
  std::int64_t scales, sums, tiles, widened, acc, bytes;
  bool partial_sums;
};

QuantProduct::QuantProduct(Context& context, QuantWeights weights)
    : weights_(std::move(weights)),
      kernels_(choose_kernels(context.isa(), weights_.format())),
      isa_(context.isa()) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    quantize_row_[static_cast<std::size_t>(dtype)] = find_quant_row(isa_, dtype);
  }
  const std::int64_t element = kernels_.front()->wants_tiles ? 2 : 1;
  blocking_ = choose_blocking(element, weights_.depth(), cache_sizes());
  const std::int64_t unit = weights_.format() == QuantFormat::int8
                                ? kQuantDepthUnit
                                : std::max(kQuantDepthUnit, weights_.group());
  blocking_.depth = std::min(weights_.depth(), round_up(blocking_.depth, unit));
}

const QuantKernel& QuantProduct::kernel_for(std::int64_t rows) const noexcept {
  for (const QuantKernel* kernel : kernels_) {
    if (rows >= kernel->min_rows) return *kernel;
  }
  return *kernels_.back();
}

QuantRows QuantProduct::quantize_rows(Context& context, Arena::Scope& scope,
                                      const ConstMatrixView& x, std::int64_t rows) const {
  const std::int64_t depth = weights_.depth(), groups = depth / weights_.group();
  QuantRows out;
  // A line more than the row, so that 16 rows a power of two apart do not meet in one L1 set.
  out.stride = depth + 64;
  out.groups = groups;
  out.data = scope.take<std::int8_t>((rows + kTileRows) * out.stride).data();
  out.scales = scope.take<float>(rows).data();
  out.sums = scope.take<std::int32_t>(rows * groups).data();
  const RowFn quantize = quantize_row_[static_cast<std::size_t>(x.dtype)];
  pool_of(context).for_ranges(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      out.scales[r] = quantize({.x = x.row(r),
                                .cols = x.cols,
                                .depth = depth,
                                .group = weights_.group(),
                                .out = out.data + r * out.stride,
                                .sums = out.sums + r * groups});
    }
  });
  return out;
}

void QuantProduct::run(Context& context, std::span<const Group> groups, const QuantRows& in,
                       const std::int32_t* row_index, EpilogueKind kind, Activation act,
                       const MatrixView& out) {
  const std::int64_t row_unit = kernels_.front()->begin != nullptr ? 2 * kTileRows : 12;
  make_schedule(
      groups,
      {weights_.stripes(), blocking_.rows, row_unit, context.threads(), weights_.stripe_bytes()},
      tasks_);
  if (tasks_.empty()) return;

  Call call{in, row_index, find_epilogue(isa_, kind, act, out.dtype), out, 0, 0, 0, 0, 0, 0, false};
  call.partial_sums = blocking_.depth < weights_.depth();
  std::int64_t rows = 0, acc = 0;
  for (const Task& task : tasks_) {
    const std::int64_t stripes = call.partial_sums ? task.stripe_end - task.stripe_begin : 1;
    rows = std::max(rows, round_up(task.rows, kTileRows));
    acc = std::max(acc, round_up(task.rows, kTileRows) * kStripeColumns * stripes * 4);
  }
  const bool tiles = kernels_.front()->wants_tiles;
  call.scales = row_index != nullptr ? rows * in.stride : 0;
  call.sums = call.scales + round_up(rows * 4, 64);
  call.tiles = call.sums + round_up(rows * in.groups * 4, 64);
  call.widened = call.tiles + (tiles ? rows * blocking_.depth * 2 : 0);
  call.acc = call.widened + (tiles ? blocking_.depth * kStripeColumns * 2 : 0);
  call.bytes = round_up(call.acc + acc, 64);
  Arena::Scope scope(arena_of(context));
  const auto scratch = scope.take<std::byte>(call.bytes * context.threads());

  const auto first_stripe = [&](std::int64_t i) -> const std::byte* {
    if (i < 0) return nullptr;
    const Task& task = tasks_[static_cast<std::size_t>(i)];
    return weights_.stripe(groups[static_cast<std::size_t>(task.group)].matrix, task.stripe_begin);
  };
  pool_of(context).for_each_dealt(
      std::ssize(tasks_), [&](std::int64_t i, std::int64_t next, int t) {
        const Task& task = tasks_[static_cast<std::size_t>(i)];
        run_task(call, groups[static_cast<std::size_t>(task.group)], task, first_stripe(next),
                 scratch.data() + t * call.bytes);
      });
}

void QuantProduct::run_task(const Call& call, const Group& group, const Task& task,
                            const std::byte* next, std::byte* scratch) const noexcept {
  const QuantKernel& kernel = kernel_for(group.rows);
  const QuantRows& in = call.in;
  const std::int64_t first = group.in_row + task.row_begin;
  QuantArgs args{};
  args.panel_stride = in.stride;
  args.sums_stride = in.groups;
  args.depth = weights_.depth();
  args.group = weights_.group();
  args.zero_points = weights_.zero_points();
  args.rows = task.rows;
  args.scratch = scratch + call.widened;

  const std::int8_t* rows = in.data + first * in.stride;
  args.row_scale = in.scales + first;
  args.row_sums = in.sums + first * in.groups;
  if (call.row_index != nullptr) {
    auto* gathered = reinterpret_cast<std::int8_t*>(scratch);
    auto* scales = reinterpret_cast<float*>(scratch + call.scales);
    auto* sums = reinterpret_cast<std::int32_t*>(scratch + call.sums);
    for (std::int64_t r = 0; r < task.rows; ++r) {
      const std::int64_t token = call.row_index[first + r];
      std::memcpy(gathered + r * in.stride, in.data + token * in.stride,
                  static_cast<std::size_t>(weights_.depth()));
      std::memcpy(sums + r * in.groups, in.sums + token * in.groups,
                  static_cast<std::size_t>(in.groups) * sizeof *sums);
      scales[r] = in.scales[token];
    }
    rows = gathered;
    args.row_scale = scales;
    args.row_sums = sums;
  }
  args.panel = rows;

  if (kernel.begin != nullptr) kernel.begin();
  for (std::int64_t k0 = 0; k0 < weights_.depth(); k0 += blocking_.depth) {
    const std::int64_t k1 = std::min(weights_.depth(), k0 + blocking_.depth);
    args.k_begin = k0;
    args.k_end = k1;
    if (kernel.wants_tiles) {
      auto* tiles = reinterpret_cast<bf16*>(scratch + call.tiles);
      fill_tiles(rows, in.stride, task.rows, k0, k1, tiles);
      args.panel = tiles;
      args.panel_stride = kTileRows * (k1 - k0);
    }
    for (std::int64_t s = task.stripe_begin; s < task.stripe_end; ++s) {
      const std::int64_t held = call.partial_sums ? s - task.stripe_begin : 0;
      args.acc = reinterpret_cast<float*>(scratch + call.acc) +
                 held * round_up(task.rows, kTileRows) * kStripeColumns;
      args.stripe = weights_.stripe(group.matrix, s);
      // What comes after the last stripe is the first one of the thread's next task.
      args.prefetch = call.partial_sums         ? nullptr
                      : s + 1 < task.stripe_end ? args.stripe + weights_.stripe_bytes()
                                                : next;
      args.prefetch_bytes = args.prefetch != nullptr ? weights_.stripe_bytes() : 0;
      kernel.run(args);
      if (k1 < weights_.depth()) continue;
      const std::int64_t column = s * weights_.stripe_outputs();
      const std::int64_t columns = std::min(kStripeColumns, call.out.cols - column);
      if (columns <= 0) continue;
      const auto size = static_cast<std::int64_t>(size_of(call.out.dtype));
      const std::int64_t row_bytes = call.out.row_stride * size;
      call.epilogue({args.acc, task.rows, columns,
                     call.out.row(group.out_row + task.row_begin) + column * size, row_bytes,
                     kTileRows * row_bytes});
    }
  }
  if (kernel.end != nullptr) kernel.end();
}

}  // namespace switchyard::gemm
