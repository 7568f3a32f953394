#include "gemm/product.h"

#include <algorithm>
#include <limits>

#include "base/context.h"
#include "base/cpu.h"

namespace switchyard::gemm {

namespace {

// Finished together: whole cache lines of an activated bf16 panel, two lines in a row of an output.
constexpr std::int64_t kStripesTogether = 2;

// An output larger than this passes the caches. 2 MiB of rows written so take 0.11 ms a thread, two
// lines at a time (0.22 one at a time), and 0.4 to 0.7 through the caches, each line read first.
constexpr std::int64_t kStreamedBytes = 8 << 20;

bool is_streamed(const MatrixView& out) noexcept {
  const std::int64_t row_bytes = out.row_stride * static_cast<std::int64_t>(size_of(out.dtype));
  return reinterpret_cast<std::uintptr_t>(out.data) % 64 == 0 && row_bytes % 64 == 0 &&
         out.rows * row_bytes > kStreamedBytes;
}

}  // namespace

/// One of the two sources, one of the two sinks.
struct GroupedProduct::Call {
  const GatherSource* rows_in = nullptr;
  const Panel* panel_in = nullptr;
  const MatrixView* rows_out = nullptr;
  const Panel* panel_out = nullptr;
  std::int64_t even_rows = 0;  // of groups that share tiles evenly, at most
  EpilogueFn epilogue = nullptr;
  bool pairs = true;    // of stripes lie side by side in the output
  bool stream = false;  // rows_out past the caches
};

GroupedProduct::GroupedProduct(Context&, const Kernel& kernel, PackedWeights weights)
    : kernel_(&kernel),
      weights_(std::move(weights)),
      blocking_(choose_blocking(kernel, round_up(weights_.depth(), kDepthUnit), cache_sizes())) {}

void GroupedProduct::run(Context& context, std::span<const Group> groups, const GatherSource& in,
                         Activation act, const Panel& out) {
  const EpilogueKind kind =
      weights_.stripe_outputs() == 16 ? EpilogueKind::gated : EpilogueKind::plain;
  Call call;
  call.rows_in = &in;
  call.panel_out = &out;
  call.even_rows = out.even_rows;
  call.pairs = kind == EpilogueKind::gated;  // one of plain fills a tile
  call.epilogue = find_epilogue(kernel_->isa, kind, act, out.shape.element);
  run(context, groups, call);
}

void GroupedProduct::run(Context& context, std::span<const Group> groups, const Panel& in,
                         const MatrixView& out) {
  if (kernel_->format == PanelFormat::split_tiles) {
    const std::int64_t columns = weights_.depth();
    const std::int64_t rows = std::numeric_limits<std::int32_t>::max();  // groups know how many
    return run(context, groups,
               GatherSource{{in.data, in.shape.element, rows, columns, in.shape.stride()}}, out);
  }
  Call call;
  call.panel_in = &in;
  call.even_rows = in.even_rows;
  call.rows_out = &out;
  call.stream = is_streamed(out);
  call.epilogue = find_epilogue(kernel_->isa, EpilogueKind::store, Activation::relu, out.dtype);
  run(context, groups, call);
}

void GroupedProduct::run(Context& context, std::span<const Group> groups, const GatherSource& in,
                         const MatrixView& out) {
  Call call;
  call.rows_in = &in;
  call.rows_out = &out;
  call.even_rows = blocking_.rows;
  call.stream = is_streamed(out);
  call.epilogue = find_epilogue(kernel_->isa, EpilogueKind::store, Activation::relu, out.dtype);
  run(context, groups, call);
}

void GroupedProduct::run(Context& context, std::span<const Group> groups, const Call& call) {
  const std::int64_t row_unit = kernel_->format == PanelFormat::rows ? 12 : 2 * kTileRows;
  make_schedule(
      groups,
      {weights_.stripes(), blocking_.rows, row_unit, context.threads(), weights_.stripe_bytes()},
      tasks_);
  if (tasks_.empty()) return;

  std::int64_t panel_size = 0, acc_count = 0;
  for (const Task& task : tasks_) {
    const std::int64_t rows = round_up(task.rows, kTileRows);
    const std::int64_t stripes =
        has_partial_sums(task.rows) ? task.stripe_end - task.stripe_begin : kStripesTogether;
    acc_count = std::max(acc_count, rows * kStripeColumns * stripes);
    if (call.rows_in != nullptr) panel_size = std::max(panel_size, panel_bytes(task.rows));
  }
  Arena::Scope scratch(arena_of(context));
  const int threads = context.threads();
  const auto panels = scratch.take<std::byte>(panel_size * threads);
  const auto accs = scratch.take<float>(acc_count * threads);

  const auto first_stripe = [&](std::int64_t i) -> const std::byte* {
    if (i < 0) return nullptr;
    const Task& task = tasks_[static_cast<std::size_t>(i)];
    return weights_.stripe(groups[static_cast<std::size_t>(task.group)].matrix, task.stripe_begin);
  };
  pool_of(context).for_each_dealt(
      std::ssize(tasks_), [&](std::int64_t i, std::int64_t next, int t) {
        const Task& task = tasks_[static_cast<std::size_t>(i)];
        const Group& group = groups[static_cast<std::size_t>(task.group)];
        begin(call, group, task);
        run_task(call, group, task, first_stripe(next), panels.data() + t * panel_size,
                 accs.data() + t * acc_count);
        if (kernel_->end != nullptr) kernel_->end();
      });
}

std::int64_t GroupedProduct::tile_rows(const Call& call, const Group& group) const noexcept {
  const bool even = kernel_->format == PanelFormat::tiles && group.rows <= call.even_rows;
  return even ? even_tile_rows(group.rows) : kTileRows;
}

// One row tile of bf16 takes two stripes side by side.
std::int64_t GroupedProduct::stripes_at_once(const Task& task) const noexcept {
  const bool tiles = kernel_->format == PanelFormat::tiles && kernel_->panel == DType::bf16;
  return tiles && task.rows <= kTileRows ? 2 : 1;
}

void GroupedProduct::begin(const Call& call, const Group& group, const Task& task) const noexcept {
  if (kernel_->begin == nullptr) return;
  const bool is_split = kernel_->format == PanelFormat::split_tiles;
  kernel_->begin(is_split ? task.rows : tile_rows(call, group));
}

// The sums of split tiles do not depend on parts: few rows, whose panel fits whole, need none.
std::int64_t GroupedProduct::part_of(std::int64_t rows) const noexcept {
  const std::int64_t depth = round_up(weights_.depth(), kDepthUnit);
  const bool fits = round_up(rows, kTileRows) * depth <= blocking_.rows * blocking_.depth;
  return kernel_->format == PanelFormat::split_tiles && fits ? depth : blocking_.depth;
}

bool GroupedProduct::has_partial_sums(std::int64_t rows) const noexcept {
  return part_of(rows) < round_up(weights_.depth(), kDepthUnit);
}

std::int64_t GroupedProduct::panel_bytes(std::int64_t rows) const noexcept {
  return round_up(PanelShape(*kernel_, part_of(rows)).bytes(rows), 64);
}

std::int64_t GroupedProduct::rows_scratch_bytes(std::int64_t rows) const noexcept {
  const std::int64_t stripes = has_partial_sums(rows) ? weights_.stripes() : kStripesTogether;
  // Fewer rows may have a larger panel: of the whole depth.
  const std::int64_t depth = round_up(weights_.depth(), kDepthUnit);
  const std::int64_t fitting = blocking_.rows * blocking_.depth / depth / kTileRows * kTileRows;
  const std::int64_t whole = std::min(rows, fitting);
  return std::max(panel_bytes(rows), panel_bytes(whole)) +
         round_up(rows, kTileRows) * kStripeColumns * stripes *
             static_cast<std::int64_t>(sizeof(float));
}

void GroupedProduct::run_rows(const GatherSource& in, const MatrixView& out, std::int64_t row,
                              std::int64_t rows, std::byte* scratch) const noexcept {
  Call call;
  call.rows_in = &in;
  call.rows_out = &out;
  call.even_rows = rows;
  call.stream = is_streamed(out);
  call.epilogue = find_epilogue(kernel_->isa, EpilogueKind::store, Activation::relu, out.dtype);
  const Group group{0, rows, row, row};
  const Task task{0, 0, rows, 0, weights_.stripes(), 0};
  begin(call, group, task);
  run_task(call, group, task, nullptr, scratch,
           reinterpret_cast<float*>(scratch + panel_bytes(rows)));
  if (kernel_->end != nullptr) kernel_->end();
}

void GroupedProduct::run_task(const Call& call, const Group& group, const Task& task,
                              const std::byte* next, std::byte* panel_scratch,
                              float* acc_scratch) const noexcept {
  const std::int64_t depth = round_up(weights_.depth(), kDepthUnit);
  const std::int64_t acc_rows = round_up(task.rows, kTileRows);
  const std::int64_t depth_bytes = weights_.stripe_bytes() / depth;
  const std::int64_t rows_of_tile = tile_rows(call, group);
  const std::byte* first = weights_.stripe(group.matrix, task.stripe_begin);
  const std::int64_t part = part_of(task.rows);
  for (std::int64_t k0 = 0; k0 < depth; k0 += part) {
    const std::int64_t k1 = std::min(depth, k0 + part);
    PanelShape shape(*kernel_, k1 - k0);
    const std::byte* panel = panel_scratch;
    if (call.panel_in != nullptr) {
      shape = call.panel_in->shape;
      panel = call.panel_in->data + shape.offset(group.in_row + task.row_begin, k0);
    } else {
      const std::int64_t row = group.in_row + task.row_begin;
      ConstMatrixView x = call.rows_in->x;
      if (call.rows_in->row_index == nullptr) x.data = x.row(row);
      const std::int32_t* index =
          call.rows_in->row_index != nullptr ? call.rows_in->row_index + row : nullptr;
      shape.tile_rows = rows_of_tile;
      fill_panel(shape, x, index, task.rows, k0, panel_scratch);
    }
    const std::int64_t stripe_acc = acc_rows * kStripeColumns;
    std::int64_t stripes = 0;
    for (std::int64_t s = task.stripe_begin; s < task.stripe_end; s += stripes) {
      stripes = std::min(stripes_at_once(task), task.stripe_end - s);
      const bool partial_sums = part < depth;
      float* acc =
          acc_scratch + (partial_sums ? s - task.stripe_begin : s % kStripesTogether) * stripe_acc;
      const std::byte* weights = weights_.stripe(group.matrix, s) + k0 * depth_bytes;
      // After the last stripe comes the first one of the next part, or of the thread's next task.
      const std::byte* ahead = s + stripes < task.stripe_end
                                   ? weights + stripes * weights_.stripe_bytes()
                               : k1 < depth ? first + k1 * depth_bytes
                                            : next;
      kernel_->run({.panel = panel,
                    .panel_stride = shape.stride(),
                    .stripe = weights,
                    .depth = k1 - k0,
                    .acc = acc,
                    .rows = task.rows,
                    .accumulate = k0 > 0,
                    .prefetch = ahead,
                    .prefetch_bytes = ahead != nullptr ? (k1 - k0) * depth_bytes : 0,
                    .tile_rows = rows_of_tile,
                    .stripes = stripes,
                    .stripe_bytes = weights_.stripe_bytes(),
                    .stripe_acc = stripe_acc,
                    .in_order = cpu_features().reads_in_order});
      if (k1 < depth) continue;
      for (std::int64_t done = s; done < s + stripes; ++done, acc += stripe_acc) {
        const bool second = done % kStripesTogether != 0 && done > task.stripe_begin;
        if (call.pairs && second) {
          finish_stripes(call, group, task, done - 1, 2, acc - stripe_acc);
        } else if (!call.pairs || done + 1 == task.stripe_end) {
          finish_stripes(call, group, task, done, 1, acc);
        }
      }
    }
  }
}

void GroupedProduct::finish_stripes(const Call& call, const Group& group, const Task& task,
                                    std::int64_t s, std::int64_t stripes,
                                    const float* acc) const noexcept {
  const std::int64_t row = group.out_row + task.row_begin;
  const std::int64_t column = s * weights_.stripe_outputs();
  EpilogueArgs args{.acc = acc,
                    .rows = task.rows,
                    .columns = stripes * kStripeColumns,
                    .out = nullptr,
                    .row_bytes = 0,
                    .tile_bytes = 0,
                    .stripes = stripes,
                    .stripe_acc = round_up(task.rows, kTileRows) * kStripeColumns,
                    .tile_rows = tile_rows(call, group)};
  if (call.panel_out != nullptr) {
    const PanelShape& shape = call.panel_out->shape;
    args.out = call.panel_out->data + shape.offset(row, column);
    args.row_bytes = shape.row_bytes();
    args.tile_bytes = shape.tile_bytes();
    return call.epilogue(args);
  }
  const MatrixView& out = *call.rows_out;
  const auto size = static_cast<std::int64_t>(size_of(out.dtype));
  args.columns = std::min(args.columns, out.cols - column);
  if (args.columns <= 0) return;
  args.out = out.row(row) + column * size;
  args.row_bytes = out.row_stride * size;
  args.tile_bytes = args.tile_rows * args.row_bytes;
  args.stream = call.stream && args.columns == stripes * kStripeColumns;
  call.epilogue(args);
}

}  // namespace switchyard::gemm
