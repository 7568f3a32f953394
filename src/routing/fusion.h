#pragma once

#include <cstdint>

#include "base/arena.h"
#include "gemm/dense.h"
#include "plan/counts.h"
#include "switchyard/routing.h"

namespace switchyard {

/// Work done inside a strategy's pass over the tokens, block by block while the block is in a
/// cache: the product that gives its logits before, the count of its assignments after.
struct Fusion {
  gemm::DenseProduct* product = nullptr;  ///< logits = x router^T, or null: they are there
  ConstMatrixView x = {};                 ///< [T, H]
  MatrixView logits = {};                 ///< [T, E] f32, written by the product
  AssignmentCounts* counts = nullptr;     ///< filled, or null
};

/// route(), the same bits, with fusion.counts filled and fusion.logits computed by fusion.product
/// within the strategy's pass. Strategies that do not fuse route after the product, and leave
/// counts that do not hold.
void route_fused(Context& context, const Strategy& strategy, const RouterInput& input,
                 const RouterParams& params, const Fusion& fusion, Routing& routing);

/// One pass over the tokens with what input.fusion asks for; nothing when it is null.
class FusedPass {
 public:
  /// A pass over blocks of at most `block` tokens with k assignments each.
  FusedPass(Context& context, const RouterInput& input, int k, int block);

  /// Before block `begin` of a thread's range that ends at `end`.
  void before(std::int64_t begin, std::int64_t end, int thread) noexcept;
  /// [E] of a thread, to which it adds experts chosen; null when nobody asks. Or after() does it.
  std::int32_t* counts_of(int thread) noexcept {
    return counts_ == nullptr ? nullptr : of_thread_.data() + thread * of_thread_stride_;
  }
  /// After the experts of the block are chosen.
  void after(int count, const std::int32_t* expert, int thread) noexcept;
  /// After the pass, when no token failed.
  void done();

 private:
  /// The rows of a product call end here: where the thread computes the next.
  struct alignas(64) Ready {
    std::int64_t end = 0;
  };

  const Fusion* fusion_;
  AssignmentCounts* counts_ = nullptr;
  int k_;
  std::int64_t num_experts_;
  Arena::Scope scope_;
  std::span<std::byte> scratch_;  // of the product, for each thread
  std::int64_t scratch_bytes_ = 0;
  std::span<Ready> ready_;
  std::span<std::int32_t> of_thread_;  // counts of each thread's range, apart by whole cache lines
  std::int64_t of_thread_stride_ = 0;
};

}  // namespace switchyard
