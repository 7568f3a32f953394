#include "routing/select.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/cpu.h"
#include "topk/topk_insert.h"

namespace switchyard {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void shape_top_k(const RouterInput& input, int k, Routing& routing) {
  resize_top_k(input, k, routing);
  set_token_begins(routing, 0, input.logits.rows, k);
}

void set_token_begins(Routing& routing, std::int64_t begin, std::int64_t end, int k) noexcept {
  std::int64_t* token_begin = routing.token_begin.data();
  for (std::int64_t t = begin; t < end; ++t) token_begin[t] = t * k;
}

void resize_top_k(const RouterInput& input, int k, Routing& routing) {
  const std::int64_t num_tokens = input.logits.rows;
  routing.num_tokens = num_tokens;
  routing.num_experts = static_cast<int>(input.logits.cols);
  routing.token_begin.resize(static_cast<std::size_t>(num_tokens) + 1);
  routing.token_begin.back() = num_tokens * k;
  routing.expert.resize(static_cast<std::size_t>(num_tokens * k));
  routing.weight.resize(static_cast<std::size_t>(num_tokens * k));
}

void FirstBad::throw_if_any(const RouterInput& input) const {
  const std::int64_t token = token_.load(std::memory_order_relaxed);
  if (token == std::numeric_limits<std::int64_t>::max()) return;
  const float* x = logits_of(input, token);
  for (std::int64_t e = 0; e < input.logits.cols; ++e) {
    require(!std::isnan(x[e]), "logits[token {}, expert {}] is NaN: expected a number or infinity",
            token, e);
  }
  require(false, "logits of token {} are all -inf: expected at least one larger", token);
}

std::int64_t select_block(TopkKernel topk, const RouterInput& input, float scale, Block& block,
                          float* max, float* sum) noexcept {
  const int num_experts = static_cast<int>(input.logits.cols);
  const std::int64_t done = topk({.x = logits_of(input, block.begin),
                                  .row_stride = input.logits.row_stride,
                                  .num_rows = block.count,
                                  .num_columns = num_experts,
                                  .k = block.k,
                                  .scale = scale,
                                  .index = block.expert,
                                  .weight = block.weight,
                                  .max = max,
                                  .sum = sum,
                                  .share = block.share,
                                  .num_chosen = block.num_chosen,
                                  .in_order = cpu_features().reads_in_order});
  // Without a branch on each row, as nearly all are finite.
  bool is_finite = true;
  for (int row = 0; row < done; ++row) is_finite &= std::fabs(max[row]) < kInfinity;
  if (is_finite) return done < block.count ? block.begin + done : -1;
  for (int row = 0; row < done; ++row) {
    if (max[row] == -kInfinity) return block.begin + row;
  }
  if (done < block.count) return block.begin + done;
  weigh_infinite(input, block);
  for (int row = 0; block.share != nullptr && row < block.count; ++row) {
    if (max[row] == kInfinity) take_share(*block.share, block.weight + row * block.k, block.k);
  }
  for (int row = 0; sum != nullptr && row < block.count; ++row) {
    if (max[row] != kInfinity) continue;
    const float* x = logits_of(input, block.begin + row);
    sum[row] = static_cast<float>(std::count(x, x + num_experts, kInfinity));
  }
  return -1;
}

void weigh_infinite(const RouterInput& input, const Block& block) noexcept {
  for (int row = 0; row < block.count; ++row) {
    if (block.max[row] != kInfinity) continue;
    const float* x = logits_of(input, block.begin + row);
    for (int i = row * block.k; i < (row + 1) * block.k; ++i) {
      block.weight[i] = x[block.expert[i]] == kInfinity ? 1.0f : 0.0f;
    }
  }
}

void divide_by_sum(const Block& block, float factor) noexcept {
  for (int row = 0; row < block.count; ++row) {
    const float scale = factor / block.sum[row];
    for (int i = row * block.k; i < (row + 1) * block.k; ++i) block.weight[i] *= scale;
  }
}

void normalise(float* weight, std::int64_t num_tokens, int k, float epsilon,
               float factor) noexcept {
  for (std::int64_t t = 0; t < num_tokens; ++t) take_share({epsilon, factor}, weight + t * k, k);
}

void check_logits(Context& context, const RouterInput& input) {
  const TopkKernel topk = topk_variant(context.isa()).topk;
  FirstBad bad;
  pool_of(context).for_ranges(
      input.logits.rows, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t t = begin; t < end; t += kBlockTokens) {
          const int count = static_cast<int>(std::min<std::int64_t>(kBlockTokens, end - t));
          float weight[kBlockTokens], max[kBlockTokens];
          std::int32_t expert[kBlockTokens];
          Block block{t, count, 1, expert, weight, max, nullptr};
          const std::int64_t token = select_block(topk, input, 1.0f, block, max, nullptr);
          if (token >= 0) return bad.note(token);
        }
      });
  bad.throw_if_any(input);
}

}  // namespace switchyard
