#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "routing/select.h"
#include "topk/exp.h"

// Nothing is chosen: with logits [T, S] over the S = E * slots_per_expert slots,
//   dispatch[s, t] = exp(x[t, s]) / sum over the tokens,
//   combine[t, s]  = exp(x[t, s]) / sum over the slots.
// A slot is the mean of all tokens by dispatch, an output the mean of all slots' outputs by
// combine: balanced whatever the logits, nothing dropped, all of it dense. Soft MoE: Puigcerver et
// al. 2023, arXiv 2308.00951. Not causal: every slot sees every token.

namespace switchyard {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kLanes = 16;

/// exp(x - max), where max is +inf 1 for +inf and 0 for the rest.
float weight_of(float x, float max) noexcept {
  return x == max ? 1.0f : max == kInfinity ? 0.0f : exp_nonpositive(x - max);
}

float sum_of(const float* x, std::int64_t count) noexcept {
  float lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
  }
  for (; i < count; ++i) lanes[i % kLanes] += x[i];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

void divide_by_sum_of(float* x, std::int64_t count) noexcept {
  const float scale = 1.0f / sum_of(x, count);
  for (std::int64_t i = 0; i < count; ++i) x[i] *= scale;
}

/// Throws for logits that cannot be routed.
void fill_combine(Context& context, const RouterInput& input, SoftRouting& routing) {
  const std::int64_t num_slots = input.logits.cols;
  const TopkKernel topk = topk_variant(context.isa()).topk;
  FirstBad bad;
  pool_of(context).for_ranges(
      input.logits.rows, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t t = begin; t < end; t += kBlockTokens) {
          const int count = static_cast<int>(std::min<std::int64_t>(kBlockTokens, end - t));
          float weight[kBlockTokens], max[kBlockTokens];
          std::int32_t slot[kBlockTokens];
          Block block{t, count, 1, slot, weight, max, nullptr};
          const std::int64_t token = select_block(topk, input, 1.0f, block, max, nullptr);
          if (token >= 0) return bad.note(token);
          for (int row = 0; row < count; ++row) {
            const float* x = logits_of(input, t + row);
            float* combine = routing.combine.data() + (t + row) * num_slots;
            for (std::int64_t s = 0; s < num_slots; ++s) combine[s] = weight_of(x[s], max[row]);
            divide_by_sum_of(combine, num_slots);
          }
        }
      });
  bad.throw_if_any(input);
}

/// In blocks of slots, each of which reads whole lines of logits. Returns the first slot without a
/// token above -inf, or the number of slots.
std::int64_t fill_dispatch(Context& context, const RouterInput& input, SoftRouting& routing) {
  constexpr int kSlots = 16;
  const std::int64_t num_tokens = input.logits.rows, num_slots = input.logits.cols;
  std::atomic<std::int64_t> empty{num_slots};
  pool_of(context).for_each((num_slots + kSlots - 1) / kSlots, [&](std::int64_t block, int) {
    const std::int64_t first = block * kSlots;
    const int count = static_cast<int>(std::min<std::int64_t>(kSlots, num_slots - first));
    float max[kSlots];
    std::fill_n(max, kSlots, -kInfinity);
    for (std::int64_t t = 0; t < num_tokens; ++t) {
      const float* x = logits_of(input, t) + first;
      for (int s = 0; s < count; ++s) max[s] = std::max(max[s], x[s]);
    }
    for (int s = 0; s < count; ++s) {
      if (max[s] != -kInfinity) continue;
      std::int64_t seen = empty.load();
      while (first + s < seen && !empty.compare_exchange_weak(seen, first + s)) {
      }
    }
    float* dispatch = routing.dispatch.data() + first * num_tokens;
    for (std::int64_t t = 0; t < num_tokens; ++t) {
      const float* x = logits_of(input, t) + first;
      for (int s = 0; s < count; ++s) dispatch[s * num_tokens + t] = weight_of(x[s], max[s]);
    }
    for (int s = 0; s < count; ++s) divide_by_sum_of(dispatch + s * num_tokens, num_tokens);
  });
  return empty.load();
}

void route_soft_moe(Context& context, const RouterInput& input, const RouterParams& params,
                    SoftRouting& routing) {
  const std::int64_t num_tokens = input.logits.rows, num_slots = input.logits.cols;
  routing.num_tokens = num_tokens;
  routing.slots_per_expert = params.slots_per_expert;
  routing.num_experts = static_cast<int>(num_slots / params.slots_per_expert);
  routing.dispatch.resize(static_cast<std::size_t>(num_slots * num_tokens));
  routing.combine.resize(static_cast<std::size_t>(num_tokens * num_slots));
  if (num_tokens == 0) return;
  fill_combine(context, input, routing);
  const std::int64_t empty = fill_dispatch(context, input, routing);
  require(empty == num_slots, "logits of slot {} are all -inf: expected at least one larger",
          empty);
}

}  // namespace

Strategy soft_moe_strategy() {
  return {.name = "soft_moe",
          .summary =
              "dense: each of E * slots_per_expert slots is a softmax mean of all tokens, each "
              "output a softmax mean of all slots' outputs; top_k is not used",
          .source = "Soft MoE, Puigcerver et al. 2023, arXiv 2308.00951",
          .causal = false,
          .knobs = "slots_per_expert",
          .route_soft = route_soft_moe};
}

}  // namespace switchyard
