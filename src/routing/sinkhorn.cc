#include <algorithm>
#include <cmath>

#include "routing/select.h"
#include "topk/exp.h"

// Top K on a matrix whose rows and columns have been scaled towards equal sums, so that experts get
// equal loads without a loss that asks for it. With C = exp(logits / temperature) and d1 = 1,
// `sinkhorn_iters` times
//   d0 = (1/T) / (C d1 + eps),   d1 = (1/E) / (C^T d0 + eps),   eps = 1e-8
// and the top K of d0 C d1. Weights come from the raw logits: softmax over the K, sigmoid for K
// = 1. S-BASE: Clark et al. 2022, arXiv 2202.01169; constants and weights as in Megatron-Core,
// which routes so in training only, since a token's experts depend on the whole batch.
//
// C is computed as exp((x - max) / temperature): a factor per token, which d0 takes back and only
// eps can see. A token whose largest logit is +inf has 1 there and 0 elsewhere. The top K is taken
// of x / temperature + ln d1, the logarithm of the same matrix without its row factors, so that
// entries too small for f32 keep their order.

namespace switchyard {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kEpsilon = 1e-8f;
// Tokens whose columns are summed in one go. Fixed, so that no sum depends on the thread count.
constexpr int kSumTokens = 256;
constexpr int kLanes = 16;
// Bounds finite scores, so that they stay between those of infinite logits.
constexpr float kMaxScore = 1e38f;

struct Problem {
  std::int64_t num_tokens;
  int num_experts;
  float scale;               // 1 / temperature
  std::span<float> max;      // [T]
  std::span<float> cost;     // C [T, E]
  std::span<float> column;   // d1 [E]
  std::span<float> partial;  // [blocks, E]: C^T d0 of kSumTokens tokens each

  std::int64_t num_blocks() const noexcept { return (num_tokens + kSumTokens - 1) / kSumTokens; }
};

void exponentiate(const float* x, float max, const Problem& p, float* c) noexcept {
  if (max == kInfinity) {
    for (int e = 0; e < p.num_experts; ++e) c[e] = x[e] == kInfinity ? 1.0f : 0.0f;
  } else {
    for (int e = 0; e < p.num_experts; ++e) c[e] = exp_nonpositive((x[e] - max) * p.scale);
  }
}

// Fills max and C. Throws for logits that cannot be routed.
void compute_costs(Context& context, const RouterInput& input, const Problem& p) {
  const TopkKernel topk = topk_variant(context.isa()).topk;
  FirstBad bad;
  pool_of(context).for_ranges(
      p.num_tokens, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t t = begin; t < end; t += kBlockTokens) {
          const int count = static_cast<int>(std::min<std::int64_t>(kBlockTokens, end - t));
          float weight[kBlockTokens];
          std::int32_t expert[kBlockTokens];
          float* max = p.max.data() + t;
          Block block{t, count, 1, expert, weight, max, nullptr};
          const std::int64_t token = select_block(topk, input, 1.0f, block, max, nullptr);
          if (token >= 0) return bad.note(token);
          for (int row = 0; row < count; ++row) {
            exponentiate(logits_of(input, t + row), max[row], p,
                         p.cost.data() + (t + row) * p.num_experts);
          }
        }
      });
  bad.throw_if_any(input);
}

float dot(const float* a, const float* b, int count) noexcept {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < count; ++i) lanes[i % kLanes] += a[i] * b[i];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

// One iteration reads C once: a token's d0 is used where it is found.
void balance(Context& context, const Problem& p) {
  const float token_share = 1.0f / static_cast<float>(p.num_tokens);
  const float expert_share = 1.0f / static_cast<float>(p.num_experts);
  pool_of(context).for_each(p.num_blocks(), [&](std::int64_t block, int) {
    float* sum = p.partial.data() + block * p.num_experts;
    std::fill_n(sum, p.num_experts, 0.0f);
    const std::int64_t end = std::min(p.num_tokens, (block + 1) * kSumTokens);
    for (std::int64_t t = block * kSumTokens; t < end; ++t) {
      const float* c = p.cost.data() + t * p.num_experts;
      const float d0 = token_share / (dot(c, p.column.data(), p.num_experts) + kEpsilon);
      for (int e = 0; e < p.num_experts; ++e) sum[e] += c[e] * d0;
    }
  });
  pool_of(context).for_ranges(p.num_experts, kLanes,
                              [&](std::int64_t begin, std::int64_t end, int) {
                                float* d1 = p.column.data();
                                std::fill(d1 + begin, d1 + end, 0.0f);
                                for (std::int64_t block = 0; block < p.num_blocks(); ++block) {
                                  const float* sum = p.partial.data() + block * p.num_experts;
                                  for (std::int64_t e = begin; e < end; ++e) d1[e] += sum[e];
                                }
                                for (std::int64_t e = begin; e < end; ++e)
                                  d1[e] = expert_share / (d1[e] + kEpsilon);
                              });
}

void score_row(const float* x, float max, const float* log_column, const Problem& p,
               float* score) noexcept {
  const float shift = max == kInfinity ? 0.0f : max;
  for (int e = 0; e < p.num_experts; ++e) {
    const float scaled = std::clamp((x[e] - shift) * p.scale, -kMaxScore, kMaxScore);
    score[e] = std::fabs(x[e]) == kInfinity ? x[e] : scaled + log_column[e];
  }
}

// Of the chosen logits x of one token, in place.
void weigh(float* x, int k) noexcept {
  const float max = *std::max_element(x, x + k);
  if (k == 1) {
    const float e = exp_nonpositive(-std::fabs(max));
    x[0] = (max >= 0.0f ? 1.0f : e) / (1.0f + e);
    return;
  }
  for (int i = 0; i < k; ++i) {
    const bool is_max = x[i] == max;  // also where both are infinite
    x[i] = is_max ? 1.0f : max == kInfinity ? 0.0f : exp_nonpositive(x[i] - max);
  }
  normalise(x, 1, k, 0.0f, 1.0f);
}

void choose(Context& context, const RouterInput& input, int k, const Problem& p,
            std::span<const float> log_column, Arena::Scope& scope, Routing& routing) {
  constexpr int kRows = 16;  // of scores, which then stay in L1 or L2
  const std::int64_t block_size = std::int64_t{kRows} * p.num_experts;
  const auto scores = scope.take<float>(context.threads() * block_size);
  const TopkKernel topk = topk_variant(context.isa()).topk;
  pool_of(context).for_ranges(
      p.num_tokens, kRows, [&](std::int64_t begin, std::int64_t end, int thread) {
        float* score = scores.data() + thread * block_size;
        for (std::int64_t t = begin; t < end; t += kRows) {
          const int count = static_cast<int>(std::min<std::int64_t>(kRows, end - t));
          for (int row = 0; row < count; ++row) {
            score_row(logits_of(input, t + row), p.max[static_cast<std::size_t>(t + row)],
                      log_column.data(), p, score + std::int64_t{row} * p.num_experts);
          }
          std::int32_t* expert = routing.expert.data() + t * k;
          float* weight = routing.weight.data() + t * k;
          topk({score, p.num_experts, count, p.num_experts, k, 1.0f, expert, weight, nullptr,
                nullptr});
          for (int row = 0; row < count; ++row) {
            const float* x = logits_of(input, t + row);
            for (int i = row * k; i < (row + 1) * k; ++i) weight[i] = x[expert[i]];
            weigh(weight + row * k, k);
          }
        }
      });
}

void route_sinkhorn(Context& context, const RouterInput& input, const RouterParams& params,
                    Routing& routing) {
  shape_top_k(input, params.top_k, routing);
  if (input.logits.rows == 0) return;
  Arena::Scope scope(arena_of(context));
  Problem p{input.logits.rows,
            static_cast<int>(input.logits.cols),
            1.0f / params.temperature,
            {},
            {},
            {},
            {}};
  p.max = scope.take<float>(p.num_tokens);
  p.cost = scope.take<float>(p.num_tokens * p.num_experts);
  p.column = scope.take<float>(p.num_experts);
  p.partial = scope.take<float>(p.num_blocks() * p.num_experts);
  compute_costs(context, input, p);
  std::fill(p.column.begin(), p.column.end(), 1.0f);
  for (int i = 0; i < params.sinkhorn_iters; ++i) balance(context, p);
  for (float& d1 : p.column) d1 = std::log(d1);
  choose(context, input, params.top_k, p, p.column, scope, routing);
}

}  // namespace

Strategy sinkhorn_strategy() {
  return {.name = "sinkhorn",
          .summary =
              "top K of exp(logits / temperature) after sinkhorn_iters rounds of scaling rows and "
              "columns to equal sums; weights from the raw logits",
          .source = "S-BASE, Clark et al. 2022, arXiv 2202.01169; Megatron-Core",
          .causal = false,
          .route = route_sinkhorn,
          .knobs = "top_k, temperature, sinkhorn_iters"};
}

}  // namespace switchyard
