#include "routing/groups.h"

#include <algorithm>
#include <limits>

namespace switchyard {
namespace {

float score_of_group(GroupScore rule, const float* score, int size) noexcept {
  float best = -std::numeric_limits<float>::infinity(), second = best;
  for (int e = 0; e < size; ++e) {
    second = std::max(second, std::min(best, score[e]));
    best = std::max(best, score[e]);
  }
  return rule == GroupScore::best || size == 1 ? best : best + second;
}

}  // namespace

GroupScratchOfThreads::GroupScratchOfThreads(Arena::Scope& scope, int threads, int num_experts,
                                             const RouterParams& params)
    : num_groups_(params.n_group),
      num_groups_kept_(params.topk_group),
      num_kept_(num_experts / params.n_group * params.topk_group) {
  const std::int64_t rows = std::int64_t{threads} * kGroupBlock;
  score_ = scope.take<float>(rows * num_groups_);
  group_ = scope.take<std::int32_t>(rows * num_groups_kept_);
  unused_weight_ = scope.take<float>(rows * num_groups_kept_);
  kept_ = scope.take<float>(rows * num_kept_);
}

GroupScratch GroupScratchOfThreads::operator[](int thread) const noexcept {
  const std::int64_t row = std::int64_t{thread} * kGroupBlock;
  return {score_.data() + row * num_groups_, group_.data() + row * num_groups_kept_,
          unused_weight_.data() + row * num_groups_kept_, kept_.data() + row * num_kept_};
}

// The kept groups' scores are moved together, in order, so that ties still go to the lower expert
// and an expert left out can never win, whatever its neighbours' scores.
void select_in_groups(TopkKernel topk, GroupScore rule, const float* score, std::int64_t row_stride,
                      int count, int num_experts, const RouterParams& params,
                      const GroupScratch& scratch, std::int32_t* expert, float* weight,
                      float* max) noexcept {
  const int num_groups = params.n_group, keep = params.topk_group, k = params.top_k;
  if (keep == num_groups) {
    topk({score, row_stride, count, num_experts, k, 1.0f, expert, weight, max, nullptr});
    return;
  }
  const int size = num_experts / num_groups, num_kept = size * keep;
  for (int row = 0; row < count; ++row) {
    for (int g = 0; g < num_groups; ++g) {
      scratch.score[row * num_groups + g] =
          score_of_group(rule, score + row * row_stride + g * size, size);
    }
  }
  topk({scratch.score, num_groups, count, num_groups, keep, 1.0f, scratch.group,
        scratch.unused_weight, nullptr, nullptr});
  for (int row = 0; row < count; ++row) {
    std::int32_t* groups = scratch.group + row * keep;
    std::sort(groups, groups + keep);
    for (int g = 0; g < keep; ++g) {
      std::copy_n(score + row * row_stride + groups[g] * size, size,
                  scratch.kept + row * num_kept + g * size);
    }
  }
  topk({scratch.kept, num_kept, count, num_kept, k, 1.0f, expert, weight, max, nullptr});
  for (int i = 0; i < count * k; ++i) {
    const std::int32_t* groups = scratch.group + i / k * keep;
    expert[i] = groups[expert[i] / size] * size + expert[i] % size;
  }
}

}  // namespace switchyard
