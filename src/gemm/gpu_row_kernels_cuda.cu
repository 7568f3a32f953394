#include "cuda/launch.h"
#include "gemm/gpu_row_kernels.h"
#include "gemm/grouped_end.h"

namespace switchyard::gemm {
namespace {

using Element = std::uint16_t;

/// A warp moves a row: row i of expert e = warp / each, i = warp mod each.
template <bool kTakes>
struct MoveRows {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / simt::kWarp;
  struct Args {
    GpuRows rows;
    PaddedForm form;
    std::int64_t slots;  // E * each
    const Element* from;
    Element* to;
    std::int64_t stride;  // of the side that is not padded
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t slot = simt::block_index() * kWarps + simt::warp_index();
    if (slot >= args.slots) return;
    const std::int64_t expert = slot / args.form.each, i = slot % args.form.each;
    const bool exists = i < args.rows.expert_rows[expert];
    if (!exists && !kTakes) return;
    std::int64_t row = exists ? args.rows.expert_begin[expert] + i : 0;
    if (kTakes && exists && args.rows.token_of_row != nullptr) row = args.rows.token_of_row[row];
    for (std::int64_t k = simt::lane_index(); k < args.form.columns; k += simt::kWarp) {
      if (kTakes) {
        args.to[slot * args.form.columns + k] = exists ? args.from[row * args.stride + k] : 0;
      } else {
        args.to[row * args.stride + k] = args.from[slot * args.form.columns + k];
      }
    }
  }
};

/// A warp gathers a row; padding has no token and is left as it is.
struct GatherRows {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / simt::kWarp;
  struct Args {
    const std::int32_t* token_of_row;
    const Element* from;
    Element* to;
    std::int64_t rows, tokens, columns, stride;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t row = simt::block_index() * kWarps + simt::warp_index();
    if (row >= args.rows) return;
    const std::int64_t token = args.token_of_row != nullptr ? args.token_of_row[row] : row;
    // Rows beyond the last expert's are not set: they name anything.
    if (token < 0 || token >= args.tokens) return;
    for (std::int64_t k = simt::lane_index(); k < args.columns; k += simt::kWarp) {
      args.to[row * args.columns + k] = args.from[token * args.stride + k];
    }
  }
};

template <class T>
struct Activate {
  static constexpr int kThreads = 256;
  struct Args {
    Activation activation;
    const T* gate;
    T* up;
    std::int64_t count;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t first = (simt::block_index() * kThreads + simt::thread_index()) * 2;
    for (std::int64_t i = first; i < first + 2 && i < args.count; ++i) {
      const float up = widen(args.up[i]);
      const float value = args.gate != nullptr ? activate(args.activation, widen(args.gate[i])) * up
                                               : activate(args.activation, up);
      args.up[i].bits = static_cast<std::uint16_t>(pack_pair<T>(value, 0.0f));
    }
  }
};

template <class T>
void launch_activate(cuda::Gpu& gpu, Activation activation, const std::byte* gate, std::byte* up,
                     std::int64_t count) {
  cuda::launch<Activate<T>>(
      gpu, cuda::ceil_div(count, 2 * Activate<T>::kThreads),
      {activation, reinterpret_cast<const T*>(gate), reinterpret_cast<T*>(up), count});
}

}  // namespace

void take_rows(cuda::Gpu& gpu, const GpuRows& rows, const ConstMatrixView& in,
               const PaddedForm& form, std::byte* to) {
  const auto* from = reinterpret_cast<const Element*>(in.data);
  auto* out = reinterpret_cast<Element*>(to);
  if (form.each == 0) {
    cuda::launch<GatherRows>(
        gpu, cuda::ceil_div(rows.rows, GatherRows::kWarps),
        {rows.token_of_row, from, out, rows.rows, in.rows, form.columns, in.row_stride});
    return;
  }
  const std::int64_t slots = rows.num_experts * form.each;
  cuda::launch<MoveRows<true>>(gpu, cuda::ceil_div(slots, MoveRows<true>::kWarps),
                               {rows, form, slots, from, out, in.row_stride});
}

void give_rows(cuda::Gpu& gpu, const GpuRows& rows, const PaddedForm& form, const std::byte* from,
               const MatrixView& out) {
  const std::int64_t slots = rows.num_experts * form.each;
  cuda::launch<MoveRows<false>>(gpu, cuda::ceil_div(slots, MoveRows<false>::kWarps),
                                {rows, form, slots, reinterpret_cast<const Element*>(from),
                                 reinterpret_cast<Element*>(out.data), out.row_stride});
}

void activate_elements(cuda::Gpu& gpu, DType element, Activation activation, const std::byte* gate,
                       std::byte* up, std::int64_t count) {
  if (element == DType::bf16) {
    launch_activate<bf16>(gpu, activation, gate, up, count);
  } else {
    launch_activate<f16>(gpu, activation, gate, up, count);
  }
}

}  // namespace switchyard::gemm
