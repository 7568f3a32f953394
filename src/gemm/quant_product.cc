#include "gemm/quant_product.h"

#include <algorithm>
#include <cstring>

#include "base/context.h"
#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

// Finished together, for the reasons of product.cc: whole cache lines, and two in a row of an
// output written past the caches when it is larger than this. (olmoe, T = 1024, 32 MiB of output:
// 27.6 ms past the caches, 39.5 through them.)
constexpr std::int64_t kStripesTogether = 2;
constexpr std::int64_t kStreamedBytes = 8 << 20;

// From so many rows on those between up and down pass the caches too: as elements, which with the
// panel are more than L2, and as the integers made of them. 512 rows of 1024 outputs and depth
// 2048, microseconds a stripe of up with its epilogue and its part of quantising: through the
// caches 28.5, past them 24.0, without writing 20.9.
constexpr std::int64_t kStreamedRows = 64;

bool is_streamed(const MatrixView& out) noexcept {
  const std::int64_t row_bytes = out.row_stride * static_cast<std::int64_t>(size_of(out.dtype));
  return reinterpret_cast<std::uintptr_t>(out.data) % 64 == 0 && row_bytes % 64 == 0 &&
         out.rows * row_bytes > kStreamedBytes;
}

// Stripes are fetched this many bytes at a time while as many before them are used. A line must be
// asked for some 250 ns before its use; of one 18 KiB stripe, an int4 one of depth 1024, the last
// line of the first eighth has half of that. One core, one row, GB/s from memory of 20: by 18 KiB
// 12.0, 36 KiB 17.4, 72 KiB 18.1, 144 KiB 18.2, 288 KiB 17.6.
constexpr std::int64_t kUnitBytes = 144 << 10;

// Rows are fetched by blocks of up to so many while those of the block before are quantised (16:
// 2% of T = 4096 slower).
constexpr std::int64_t kMostRowsAhead = 64;

/// Of `bytes` bytes at `from` the share of number `part` of `parts`.
PrefetchPairs share_of(const std::byte* from, std::int64_t bytes, std::int64_t part,
                       std::int64_t parts) noexcept {
  constexpr std::int64_t kPair = PrefetchPairs::kPair, kRow = PrefetchPairs::kStreams * kPair;
  const std::int64_t pairs = (bytes + kRow - 1) / kRow;
  const std::int64_t begin = pairs * part / parts, end = pairs * (part + 1) / parts;
  return {from + begin * kPair, pairs * kPair, end - begin};
}

/// How many stripes' accumulators are kept.
std::int64_t stripes_held(const QuantKernel& kernel, std::int64_t rows) noexcept {
  return std::max(kStripesTogether, stripes_at_once(kernel, rows));
}

}  // namespace

struct QuantProduct::Call {
  const Source& in;
  const Sink& out;
  EpilogueFn epilogue;
  FinishFn finish, finish_stream;  // in the place of the epilogue, of kernels that finish rows
  bool stream;                     // out past the caches
  std::int64_t row_stride;         // of quantised rows
  std::int64_t groups;             // in such a row
  // Offsets of a thread's scratch: rows gathered or quantised, their scales and sums, the kernel's,
  // accumulators, rows kept of one stripe until the next, outputs to be quantised.
  std::int64_t scales, sums, kernel, acc, kept, hidden, bytes;
};

/// The rows of a task.
struct QuantProduct::Rows {
  const std::int8_t* data;
  const float* scales;
  const std::int32_t* sums;
};

/// What a thread's next task begins with.
struct QuantProduct::Ahead {
  const std::byte* stripe = nullptr;
  std::int64_t stripes = 0;
};

QuantProduct::QuantProduct(Context& context, QuantWeights weights)
    : weights_(std::move(weights)),
      kernels_(choose_quant_kernels(context.isa(), weights_.format())),
      isa_(context.isa()) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    quantize_row_[static_cast<std::size_t>(dtype)] = find_quant_row(isa_, dtype);
  }
  blocking_ = choose_blocking(1, weights_.depth(), cache_sizes());
  const std::int64_t unit =
      weights_.format() == QuantFormat::int8 ? kQuantDepthUnit : kInt4DepthUnit;
  blocking_.depth = std::min(weights_.depth(), round_up(blocking_.depth, unit));
}

const QuantKernel& QuantProduct::kernel_for(std::int64_t rows) const noexcept {
  for (const QuantKernel* kernel : kernels_) {
    if (rows >= kernel->min_rows) return *kernel;
  }
  return *kernels_.back();
}

QuantRows QuantProduct::take_rows(Arena::Scope& scope, std::int64_t rows) const {
  QuantRows out;
  out.stride = row_stride();
  out.groups = weights_.depth() / weights_.group();
  out.data = scope.take<std::int8_t>((rows + kTileRows) * out.stride).data();
  out.scales = scope.take<float>(rows).data();
  out.sums = scope.take<std::int32_t>(rows * out.groups).data();
  return out;
}

void QuantProduct::quantize(const ConstMatrixView& x, std::int64_t begin, std::int64_t end,
                            const QuantRows& out, std::int64_t out_begin,
                            bool stream) const noexcept {
  const RowFn quantize_row = quantize_row_[static_cast<std::size_t>(x.dtype)];
  const std::int64_t row_bytes = x.row_stride * static_cast<std::int64_t>(size_of(x.dtype));
  std::int64_t block = begin, block_rows = 1;
  for (std::int64_t r = begin; r < end; ++r) {
    if (r == block + block_rows) {
      block = r;
      block_rows = std::min(2 * block_rows, kMostRowsAhead);
    }
    const std::int64_t next = std::min(end, block + block_rows);
    const std::int64_t ahead = std::min({end - next, 2 * block_rows, kMostRowsAhead});
    const std::int64_t to = out_begin + r - begin;
    out.scales[to] =
        quantize_row({.x = x.row(r),
                      .cols = x.cols,
                      .depth = weights_.depth(),
                      .group = weights_.group(),
                      .out = out.data + to * out.stride,
                      .sums = out.sums + to * out.groups,
                      .prefetch = share_of(x.row(next), ahead * row_bytes, r - block, next - block),
                      .stream = stream});
  }
}

QuantRows QuantProduct::quantize_rows(Context& context, Arena::Scope& scope,
                                      const ConstMatrixView& x, std::int64_t rows) const {
  const QuantRows out = take_rows(scope, rows);
  pool_of(context).for_ranges(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    quantize(x, begin, end, out, begin, false);
  });
  return out;
}

bool QuantProduct::schedule(Context& context, std::span<const Group> groups) {
  const std::int64_t row_unit = kernels_.front()->begin != nullptr ? 2 * kTileRows : 12;
  make_schedule(
      groups,
      {weights_.stripes(), blocking_.rows, row_unit, context.threads(), weights_.stripe_bytes()},
      tasks_);
  return std::all_of(tasks_.begin(), tasks_.end(), [&](const Task& task) {
    return task.stripe_end - task.stripe_begin == weights_.stripes();
  });
}

void QuantProduct::run(Context& context, std::span<const Group> groups, const Source& in,
                       const Sink& out) {
  if (tasks_.empty()) return;
  const auto group_of = [&](const Task& task) -> const Group& {
    return groups[static_cast<std::size_t>(task.group)];
  };
  Call call{.in = in,
            .out = out,
            .epilogue = find_epilogue(isa_, out.kind, out.act, out.out.dtype),
            .finish = nullptr,
            .finish_stream = nullptr,
            .stream = out.next == nullptr && is_streamed(out.out),
            .row_stride = row_stride(),
            .groups = weights_.depth() / weights_.group(),
            .scales = 0,
            .sums = 0,
            .kernel = 0,
            .acc = 0,
            .kept = 0,
            .hidden = 0,
            .bytes = 0};
  if (const FindFinishFn find = kernels_.front()->find_finish; find != nullptr) {
    call.finish = find(out.kind, out.act, out.out.dtype, false);
    call.finish_stream = find(out.kind, out.act, out.out.dtype, true);
  }
  std::int64_t rows = 0, acc = 0;
  for (const Task& task : tasks_) {
    const bool whole = part_depth(task) == weights_.depth();
    const QuantKernel& kernel = kernel_for(group_of(task).rows);
    const std::int64_t stripes =
        whole ? stripes_held(kernel, task.rows) : task.stripe_end - task.stripe_begin;
    rows = std::max(rows, round_up(task.rows, kTileRows));
    acc = std::max(acc, round_up(task.rows, kTileRows) * kStripeColumns * stripes * 4);
  }
  const bool copies = in.row_index != nullptr || in.quantized == nullptr;
  call.scales = copies ? rows * call.row_stride : 0;
  call.sums = call.scales + round_up(rows * 4, 64);
  call.kernel = call.sums + round_up(rows * call.groups * 4, 64);
  call.acc = call.kernel + kQuantScratchBytes;
  const auto size = static_cast<std::int64_t>(size_of(out.out.dtype));
  call.kept = round_up(call.acc + acc, 64);
  call.hidden = round_up(call.kept + rows * weights_.stripe_outputs() * size, 64);
  call.bytes = call.hidden + (out.next != nullptr ? rows * out.out.row_stride * size : 0);
  call.bytes = round_up(call.bytes, 64);
  Arena::Scope scope(arena_of(context));
  const auto scratch = scope.take<std::byte>(call.bytes * context.threads());

  const auto ahead = [&](std::int64_t i) -> Ahead {
    if (i < 0) return {};
    const Task& task = tasks_[static_cast<std::size_t>(i)];
    return {weights_.stripe(group_of(task).matrix, task.stripe_begin),
            task.stripe_end - task.stripe_begin};
  };
  pool_of(context).for_each_dealt(
      std::ssize(tasks_), [&](std::int64_t i, std::int64_t next, int t) {
        const Task& task = tasks_[static_cast<std::size_t>(i)];
        run_task(call, group_of(task), task, ahead(next), scratch.data() + t * call.bytes);
      });
}

std::int64_t QuantProduct::part_depth(const Task& task) const noexcept {
  const bool few_rows = task.rows * weights_.depth() <= blocking_.rows * blocking_.depth;
  return few_rows ? weights_.depth() : blocking_.depth;
}

QuantProduct::Rows QuantProduct::gather(const Call& call, const Group& group, const Task& task,
                                        std::byte* scratch) const noexcept {
  const QuantRows* in = call.in.quantized;
  const std::int64_t first = group.in_row + task.row_begin;
  if (in != nullptr && call.in.row_index == nullptr) {
    return {in->data + first * in->stride, in->scales + first, in->sums + first * in->groups};
  }
  const QuantRows rows{reinterpret_cast<std::int8_t*>(scratch), call.row_stride,
                       reinterpret_cast<float*>(scratch + call.scales),
                       reinterpret_cast<std::int32_t*>(scratch + call.sums), call.groups};
  if (in == nullptr) {
    quantize(call.in.x, first, first + task.rows, rows, 0, false);
    return {rows.data, rows.scales, rows.sums};
  }
  for (std::int64_t r = 0; r < task.rows; ++r) {
    const std::int64_t token = call.in.row_index[first + r];
    std::memcpy(rows.data + r * rows.stride, in->data + token * in->stride,
                static_cast<std::size_t>(weights_.depth()));
    std::memcpy(rows.sums + r * rows.groups, in->sums + token * in->groups,
                static_cast<std::size_t>(rows.groups) * sizeof *rows.sums);
    rows.scales[r] = in->scales[token];
  }
  return {rows.data, rows.scales, rows.sums};
}

PrefetchPairs QuantProduct::prefetch_of(const Task& task, std::int64_t matrix, std::int64_t s,
                                        const Ahead& ahead) const noexcept {
  const std::int64_t most = std::max<std::int64_t>(1, kUnitBytes / weights_.stripe_bytes());
  const std::int64_t unit = task.stripe_begin + (s - task.stripe_begin) / most * most;
  const std::int64_t stripes = std::min(most, task.stripe_end - unit);
  const std::int64_t next = unit + stripes;
  const bool is_last = next == task.stripe_end;
  const std::byte* from = is_last ? ahead.stripe : weights_.stripe(matrix, next);
  if (from == nullptr) return {};
  const std::int64_t count = std::min(most, is_last ? ahead.stripes : task.stripe_end - next);
  return share_of(from, count * weights_.stripe_bytes(), s - unit, stripes);
}

void QuantProduct::run_task(const Call& call, const Group& group, const Task& task,
                            const Ahead& ahead, std::byte* scratch) const noexcept {
  const QuantKernel& kernel = kernel_for(group.rows);
  const Rows rows = gather(call, group, task, scratch);
  MatrixView out = call.out.out;
  if (call.out.next != nullptr) {
    out.data = scratch + call.hidden;
  } else {
    out.data = out.row(group.out_row + task.row_begin);
  }
  const std::int64_t depth = weights_.depth(), part = part_depth(task);
  const std::int64_t stripe_acc = round_up(task.rows, kTileRows) * kStripeColumns;
  QuantArgs args{.panel = rows.data,
                 .panel_stride = call.row_stride,
                 .row_scale = rows.scales,
                 .row_sums = rows.sums,
                 .sums_stride = call.groups,
                 .stripe = nullptr,
                 .depth = depth,
                 .k_begin = 0,
                 .k_end = 0,
                 .group = weights_.group(),
                 .zero_points = weights_.zero_points(),
                 .acc = nullptr,
                 .rows = task.rows,
                 .scratch = scratch + call.kernel,
                 .prefetch = {},
                 .stripes = 1,
                 .stripe_bytes = weights_.stripe_bytes(),
                 .stripe_acc = stripe_acc,
                 .in_order = reads_in_order(kernel)};
  const std::int64_t at_once = stripes_at_once(kernel, task.rows);
  const std::int64_t held = stripes_held(kernel, task.rows);
  const bool streams = streams_rows(call, kernel, task);
  auto* accs = reinterpret_cast<float*>(scratch + call.acc);
  if (kernel.begin != nullptr) kernel.begin(kTileRows);
  for (; args.k_end < depth; args.k_begin = args.k_end) {
    args.k_end = std::min(depth, args.k_begin + part);
    std::int64_t done = task.stripe_begin;
    const auto acc_of = [&](std::int64_t s) {
      return accs +
             (s - task.stripe_begin) % (part < depth ? weights_.stripes() : held) * stripe_acc;
    };
    for (std::int64_t s = task.stripe_begin; s < task.stripe_end; s += args.stripes) {
      args.acc = acc_of(s);
      args.stripe = weights_.stripe(group.matrix, s);
      args.stripes = std::min(at_once, task.stripe_end - s);
      Finish finish;
      if (kernel.find_finish != nullptr) {
        finish = finish_of(call, out, task, streams, s, scratch + call.kept);
        args.finish = &finish;
      }
      if (at_once > 1 || args.in_order) {
        args.next = args.stripes < task.stripe_end - s
                        ? args.stripe + args.stripes * weights_.stripe_bytes()
                        : (part == depth ? ahead.stripe : nullptr);
      }
      if (at_once == 1 && part == depth) {
        args.prefetch = prefetch_of(task, group.matrix, s, ahead);
      }
      kernel.run(args);
      if (args.k_end < depth || args.finish != nullptr) continue;
      const std::int64_t end = s + args.stripes;
      while (done + kStripesTogether <= end || (done < end && end == task.stripe_end)) {
        const std::int64_t count = std::min(kStripesTogether, end - done);
        finish_stripes(call, out, task.rows, done, count, acc_of(done));
        done += count;
      }
    }
  }
  if (call.out.next != nullptr) {
    out.cols = weights_.columns();
    call.out.next->quantize(out, 0, task.rows, call.out.quantized, group.out_row + task.row_begin,
                            streams);
  }
  if (kernel.end != nullptr) kernel.end();
}

bool QuantProduct::streams_rows(const Call& call, const QuantKernel& kernel,
                                const Task& task) noexcept {
  if (kernel.find_finish == nullptr) return false;
  return call.out.next != nullptr ? task.rows >= kStreamedRows : call.stream;
}

Finish QuantProduct::finish_of(const Call& call, const MatrixView& out, const Task& task,
                               bool stream, std::int64_t s, std::byte* kept) const noexcept {
  const auto size = static_cast<std::int64_t>(size_of(out.dtype));
  const std::int64_t outputs = weights_.stripe_outputs(), width = outputs * size;
  Finish finish{
      .run = call.finish, .out = out.data + s * width, .row_bytes = out.row_stride * size};
  if (call.out.kind == EpilogueKind::store) {
    finish.columns = std::min(kStripeColumns, out.cols - s * outputs);
  }
  const std::int64_t first = s - (s - task.stripe_begin) % kStripesTogether;
  const std::int64_t end = first + kStripesTogether;
  if (!stream || end > task.stripe_end || end * outputs > out.cols) return finish;
  if (s == first) {
    finish.out = kept;
    finish.row_bytes = width;
  } else {
    finish.run = call.finish_stream;
    finish.out = out.data + first * width;
    finish.kept = kept;
  }
  return finish;
}

void QuantProduct::finish_stripes(const Call& call, const MatrixView& out, std::int64_t rows,
                                  std::int64_t s, std::int64_t stripes,
                                  const float* acc) const noexcept {
  const std::int64_t column = s * weights_.stripe_outputs();
  const std::int64_t columns = std::min(stripes * kStripeColumns, out.cols - column);
  if (columns <= 0) return;
  const auto size = static_cast<std::int64_t>(size_of(out.dtype));
  const std::int64_t row_bytes = out.row_stride * size;
  call.epilogue({.acc = acc,
                 .rows = rows,
                 .columns = columns,
                 .out = out.data + column * size,
                 .row_bytes = row_bytes,
                 .tile_bytes = kTileRows * row_bytes,
                 .stripes = stripes,
                 .stripe_acc = round_up(rows, kTileRows) * kStripeColumns,
                 .stream = call.stream && columns == stripes * kStripeColumns});
}

}  // namespace switchyard::gemm
