#include "routing/fusion.h"

#include <algorithm>
#include <limits>

#include "base/context.h"

namespace switchyard {
namespace {

constexpr std::int64_t kLine = 16;  // counts

/// The ranges that for_ranges(num_tokens, grain) gives to a pool's threads.
TokenRanges ranges_of_pool(Context& context, std::int64_t num_tokens, std::int64_t grain) {
  const bool is_one = num_tokens <= grain || context.threads() == 1;
  return {num_tokens, is_one ? 1 : context.threads(), grain};
}

}  // namespace

void route_fused(Context& context, const Strategy& strategy, const RouterInput& input,
                 const RouterParams& params, const Fusion& fusion, Routing& routing) {
  if (fusion.counts != nullptr) fusion.counts->hold = false;
  RouterInput with_fusion = input;
  with_fusion.fusion = &fusion;
  if (strategy.fuses) return route(context, strategy, with_fusion, params, routing);
  if (fusion.product != nullptr) fusion.product->run(context, fusion.x, fusion.logits);
  route(context, strategy, input, params, routing);
}

FusedPass::FusedPass(Context& context, const RouterInput& input, int k, int block)
    : fusion_(input.fusion), k_(k), num_experts_(input.logits.cols), scope_(arena_of(context)) {
  if (fusion_ == nullptr) return;
  if (fusion_->product != nullptr) {
    scratch_bytes_ = fusion_->product->scratch_bytes();
    scratch_ = scope_.take<std::byte>(context.threads() * scratch_bytes_);
    ready_ = scope_.take<Ready>(context.threads());
    std::ranges::fill(ready_, Ready{});
  }
  // More than a plan can hold are not counted: make_plan will say so.
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (fusion_->counts == nullptr || input.logits.rows * k > kMost) return;
  counts_ = fusion_->counts;
  counts_->ranges = ranges_of_pool(context, input.logits.rows, block);
  of_thread_stride_ = (num_experts_ + kLine - 1) / kLine * kLine;
  of_thread_ = scope_.take<std::int32_t>(counts_->ranges.count * of_thread_stride_);
  std::ranges::fill(of_thread_, 0);
}

void FusedPass::before(std::int64_t begin, std::int64_t end, int thread) noexcept {
  if (fusion_ == nullptr || fusion_->product == nullptr) return;
  std::int64_t& ready = ready_[static_cast<std::size_t>(thread)].end;
  if (begin < ready) return;
  ready = std::min(end, begin + fusion_->product->rows_at_once());
  fusion_->product->run_rows(fusion_->x, fusion_->logits, begin, ready - begin,
                             scratch_.data() + thread * scratch_bytes_);
}

void FusedPass::after(int count, const std::int32_t* expert, int thread) noexcept {
  if (counts_ == nullptr) return;
  std::int32_t* of_expert = counts_of(thread);
  const std::int64_t assignments = std::int64_t{count} * k_;
  for (std::int64_t i = 0; i < assignments; ++i) ++of_expert[expert[i]];
}

void FusedPass::done() {
  if (counts_ == nullptr) return;
  counts_->of_range.clear();
  for (std::int64_t range = 0; range < counts_->ranges.count; ++range) {
    const auto of_range = of_thread_.begin() + range * of_thread_stride_;
    counts_->of_range.insert(counts_->of_range.end(), of_range, of_range + num_experts_);
  }
  counts_->hold = true;
}

}  // namespace switchyard
