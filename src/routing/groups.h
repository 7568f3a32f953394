#pragma once

#include <cstdint>
#include <span>

#include "base/arena.h"
#include "switchyard/routing.h"
#include "topk/topk.h"

// Node-limited routing of the DeepSeek family: experts form n_group groups of neighbours, the best
// topk_group groups are kept, and the top K is taken among their experts.

namespace switchyard {

/// Rows a call of select_in_groups covers, few enough that a block's scores stay in L2.
inline constexpr int kGroupBlock = 16;

enum class GroupScore {
  best,      ///< its best expert (DeepSeek-V2)
  best_two,  ///< the sum of its best two; of its one where a group has one (DeepSeek-V3)
};

/// What select_in_groups works on, per thread.
struct GroupScratch {
  float* score;          ///< [kGroupBlock, n_group]
  std::int32_t* group;   ///< [kGroupBlock, topk_group]
  float* unused_weight;  ///< [kGroupBlock, topk_group]
  float* kept;           ///< [kGroupBlock, experts of the kept groups]
};

/// A GroupScratch for each thread, taken from `scope`.
class GroupScratchOfThreads {
 public:
  GroupScratchOfThreads(Arena::Scope& scope, int threads, int num_experts,
                        const RouterParams& params);
  GroupScratch operator[](int thread) const noexcept;

 private:
  int num_groups_, num_groups_kept_, num_kept_;
  std::span<float> score_;
  std::span<std::int32_t> group_;
  std::span<float> unused_weight_;
  std::span<float> kept_;
};

/// For `count` rows of scores [count, E]: expert and weight [count, top_k] and max [count] as
/// TopkKernel gives them, over the experts of the kept groups. Scores hold no NaN.
void select_in_groups(TopkKernel topk, GroupScore rule, const float* score, std::int64_t row_stride,
                      int count, int num_experts, const RouterParams& params,
                      const GroupScratch& scratch, std::int32_t* expert, float* weight,
                      float* max) noexcept;

}  // namespace switchyard
