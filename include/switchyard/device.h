#pragma once

#include <cstdint>
#include <memory>

#include "switchyard/context.h"
#include "switchyard/plan.h"
#include "switchyard/routing.h"
#include "switchyard/view.h"

/// The stages on a CUDA device. A context made with ContextOptions::device = Device::cuda takes
/// views of Device::cuda, in memory of that device, and the types below instead of Routing and
/// DispatchPlan, whose vectors are the host's. Work is put into the context's stream: a function
/// returns before it is done unless it says that it waits, never makes the host decide by what is
/// on the device, and so can be captured into a CUDA graph once it has run with the same sizes.

namespace switchyard {

namespace cuda {
class Gpu;
}

/// Memory of a context's device, freed with the buffer.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer() { release(); }
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  /// Makes room for `bytes`, 256-byte aligned. Growing discards the content; asking for no more
  /// than before does nothing. Throws Error(invalid_argument) for a context of the CPU,
  /// Error(out_of_memory) naming the bytes.
  std::byte* reserve(Context& context, std::int64_t bytes);

  std::byte* data() const noexcept { return data_; }
  std::int64_t bytes() const noexcept { return bytes_; }

 private:
  void release() noexcept;

  std::shared_ptr<cuda::Gpu> gpu_;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Copies a matrix from, to or on the device of `context`; waits where the host has part in it.
/// Throws Error(invalid_argument) for shapes or dtypes that differ.
void copy(Context& context, ConstMatrixView from, MatrixView to);

/// Waits until the device has done all it was given. Throws Error(unavailable) with CUDA's reason
/// when something failed there. On a context of the CPU it returns at once.
void synchronize(Context& context);

/// A Routing on the device. The pointers are to device memory that `memory` or the caller owns.
struct DeviceRouting {
  std::int64_t num_tokens = 0;       ///< T
  int num_experts = 0;               ///< E
  std::int64_t num_assignments = 0;  ///< A
  int per_token = 0;                 ///< K where every token has K assignments, 0 otherwise
  const std::int64_t* token_begin = nullptr;  ///< [T+1]
  /// [A], or null where per_token > 0: assignment a is of token a / K.
  const std::int32_t* token_of_assignment = nullptr;
  std::int32_t* expert = nullptr;  ///< [A]
  float* weight = nullptr;         ///< [A]
  /// Of each chunk, 32 tokens in order: the first that could not be routed, or -1 [chunks], and the
  /// assignments of each expert [chunks, E]. Null in a routing that came from the host.
  std::int32_t* bad_token_of_chunk = nullptr;
  std::int32_t* count_of_chunk = nullptr;
  DeviceBuffer memory;
};

/// A DispatchPlan on the device, with the same meaning. How many rows there are is known there
/// only: expert_begin[E], at most max_rows.
struct DevicePlan {
  Layout layout = Layout::compact;
  std::int64_t num_tokens = 0;           ///< T
  int num_experts = 0;                   ///< E
  std::int64_t num_assignments = 0;      ///< A
  std::int64_t capacity = 0;             ///< C; 0 when dropless
  std::int64_t max_rows = 0;             ///< rows that the packed matrices must have
  std::int64_t* expert_begin = nullptr;  ///< [E+1]
  std::int64_t* expert_rows = nullptr;   ///< [E]
  std::int32_t* token_of_row = nullptr;  ///< [max_rows]; rows from expert_begin[E] on are unset
  std::int32_t* row_of_assignment = nullptr;  ///< [A]
  float* weight_of_assignment = nullptr;      ///< [A]
  std::int64_t* token_begin = nullptr;        ///< [T+1]
  DeviceBuffer memory;
};

/// Waits. Throws Error(invalid_argument) for a routing that does not hold.
void copy(Context& context, const Routing& from, DeviceRouting& to);
/// Waits. Throws Error(invalid_argument) naming the first token whose logits hold a NaN or nothing
/// above -inf, or whose noise_logits are not finite, which route() on a device gave experts
/// 0, 1, ... with weights NaN.
void copy(Context& context, const DeviceRouting& from, Routing& to);
/// Waits.
void copy(Context& context, const DispatchPlan& from, DevicePlan& to);
void copy(Context& context, const DevicePlan& from, DispatchPlan& to);

/// Whether route() of a DeviceRouting knows the strategy: the library's that look at one token
/// only. Those that look at all tokens run on the CPU.
bool routes_on_device(const Strategy& strategy) noexcept;

/// routing.h on the device, the same bits: one kernel, which also counts for make_plan, after one
/// that adds noise for noisy_topk. All of `input` is memory of the device; a token whose logits
/// hold a NaN or nothing above -inf, or whose noise is not finite, gets weights NaN, and copy() to
/// the host throws.
/// Throws Error(unavailable) for a strategy that is not on the device, Error(invalid_argument) for
/// more than 1024 experts or top_k > 16.
void route(Context& context, const Strategy& strategy, const RouterInput& input,
           const RouterParams& params, DeviceRouting& routing);

/// plan.h on the device, the same plan. Throws Error(invalid_argument) for more than 1024 experts
/// and for capacity layout with capacity_factor 0, whose C the host would have to wait for.
void make_plan(Context& context, const DeviceRouting& routing, const PlanOptions& options,
               DevicePlan& plan);

/// pack.h on the device; x [T, H], rows [at least max_rows, H]. Rows from expert_begin[E] on are
/// left as they are.
void pack(Context& context, const DevicePlan& plan, ConstMatrixView x, MatrixView rows);

/// combine.h on the device, the same bits.
void combine(Context& context, const DevicePlan& plan, ConstMatrixView rows, MatrixView out,
             bool accumulate = false);

}  // namespace switchyard
