#include <algorithm>
#include <cmath>

#include "routing/select.h"
#include "topk/exp.h"

// Experts choose: with p = softmax over the experts, each takes the C tokens that it is most
// probable for, C = ceil(choice_capacity * T * K / E), all T where that is less; equally probable
// ones by rising token. Weights are p. Every expert has exactly C tokens; a token has 0 to E
// experts, and one that nobody chose keeps none. Zhou et al. 2022, arXiv 2202.09368. Not causal:
// whether an expert takes a token depends on the tokens after it, so text cannot be generated with
// it as it was trained.
//
// Tokens are compared by ln p, which keeps the order of probabilities that f32 cannot hold.

namespace switchyard {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Problem {
  std::int64_t num_tokens;
  int num_experts;
  std::int64_t capacity;              // C
  std::span<float> score;             // ln p, [E, T]
  std::span<float> least;             // [E]: the smallest score taken
  std::span<std::int64_t> last_tied;  // [E]: the last token taken with that score

  bool is_taken(std::int64_t e, std::int64_t t) const noexcept {
    const float s = score[static_cast<std::size_t>(e * num_tokens + t)];
    const float bound = least[static_cast<std::size_t>(e)];
    return s > bound || (s == bound && t <= last_tied[static_cast<std::size_t>(e)]);
  }
};

// Writes the scores of a block of tokens. Throws, after the join, for logits that cannot be routed.
void compute_scores(Context& context, const RouterInput& input, const Problem& p) {
  const TopkKernel topk = topk_variant(context.isa()).topk;
  FirstBad bad;
  pool_of(context).for_ranges(
      p.num_tokens, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t t = begin; t < end; t += kBlockTokens) {
          const int count = static_cast<int>(std::min<std::int64_t>(kBlockTokens, end - t));
          float weight[kBlockTokens], max[kBlockTokens], sum[kBlockTokens];
          std::int32_t expert[kBlockTokens];
          Block block{t, count, 1, expert, weight, max, sum};
          const std::int64_t token = select_block(topk, input, 1.0f, block, max, sum);
          if (token >= 0) return bad.note(token);
          for (int row = 0; row < count; ++row) {
            const float* x = logits_of(input, t + row);
            const float log_sum = std::log(sum[row]);
            float* score = p.score.data() + t + row;
            for (std::int64_t e = 0; e < p.num_experts; ++e) {
              const float above = max[row] != kInfinity ? x[e] - max[row]
                                  : x[e] == kInfinity   ? 0.0f
                                                        : -kInfinity;
              score[e * p.num_tokens] = above - log_sum;
            }
          }
        }
      });
  bad.throw_if_any(input);
}

// What an expert takes is all above its C-th largest score, and of those equal to it the first.
void find_bounds(Context& context, const Problem& p, std::span<float> scratch) {
  pool_of(context).for_each(p.num_experts, [&](std::int64_t e, int thread) {
    const float* score = p.score.data() + e * p.num_tokens;
    float* sorted = scratch.data() + thread * p.num_tokens;
    std::copy_n(score, p.num_tokens, sorted);
    float* nth = sorted + p.capacity - 1;
    std::nth_element(sorted, nth, sorted + p.num_tokens, std::greater<>());
    const float least = *nth;
    std::int64_t num_tied = p.capacity;
    for (std::int64_t t = 0; t < p.num_tokens; ++t) num_tied -= score[t] > least;
    std::int64_t t = -1;
    while (num_tied > 0) num_tied -= score[++t] == least;
    p.least[static_cast<std::size_t>(e)] = least;
    p.last_tied[static_cast<std::size_t>(e)] = t;
  });
}

void count_experts(Context& context, const Problem& p, Routing& routing) {
  pool_of(context).for_ranges(p.num_tokens, kBlockTokens,
                              [&](std::int64_t begin, std::int64_t end, int) {
                                std::int64_t* count = routing.token_begin.data() + 1;
                                std::fill(count + begin, count + end, 0);
                                for (std::int64_t e = 0; e < p.num_experts; ++e) {
                                  for (std::int64_t t = begin; t < end; ++t)
                                    count[t] += p.is_taken(e, t);
                                }
                              });
  routing.token_begin[0] = 0;
  for (std::size_t t = 0; t < static_cast<std::size_t>(p.num_tokens); ++t) {
    routing.token_begin[t + 1] += routing.token_begin[t];
  }
}

// By falling score; experts come in rising order, and equal scores stay in it.
void insert(std::int32_t expert, float score, std::int32_t* experts, float* scores,
            std::int64_t count) noexcept {
  for (; count > 0 && score > scores[count - 1]; --count) {
    experts[count] = experts[count - 1];
    scores[count] = scores[count - 1];
  }
  experts[count] = expert;
  scores[count] = score;
}

void list_experts(Context& context, const Problem& p, Routing& routing) {
  pool_of(context).for_ranges(
      p.num_tokens, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t first = begin; first < end; first += kBlockTokens) {
          const std::int64_t last = std::min(first + kBlockTokens, end);
          std::int64_t count[kBlockTokens] = {};
          for (std::int64_t e = 0; e < p.num_experts; ++e) {
            const float* score = p.score.data() + e * p.num_tokens;
            for (std::int64_t t = first; t < last; ++t) {
              if (!p.is_taken(e, t)) continue;
              const std::int64_t at = routing.token_begin[static_cast<std::size_t>(t)];
              insert(static_cast<std::int32_t>(e), score[t], routing.expert.data() + at,
                     routing.weight.data() + at, count[t - first]++);
            }
          }
        }
        const std::int64_t from = routing.token_begin[static_cast<std::size_t>(begin)];
        const std::int64_t to = routing.token_begin[static_cast<std::size_t>(end)];
        float* weight = routing.weight.data();
        for (std::int64_t a = from; a < to; ++a) weight[a] = exp_nonpositive(weight[a]);
      });
}

std::int64_t capacity_of(std::int64_t num_tokens, int num_experts, const RouterParams& params) {
  const double assignments = static_cast<double>(num_tokens) * params.top_k;
  const double capacity = std::ceil(params.choice_capacity * assignments / num_experts);
  return capacity < static_cast<double>(num_tokens) ? static_cast<std::int64_t>(capacity)
                                                    : num_tokens;
}

void route_expert_choice(Context& context, const RouterInput& input, const RouterParams& params,
                         Routing& routing) {
  const std::int64_t num_tokens = input.logits.rows;
  const int num_experts = static_cast<int>(input.logits.cols);
  Arena::Scope scope(arena_of(context));
  const Problem p{num_tokens,
                  num_experts,
                  capacity_of(num_tokens, num_experts, params),
                  scope.take<float>(num_tokens * num_experts),
                  scope.take<float>(num_experts),
                  scope.take<std::int64_t>(num_experts)};
  routing.num_tokens = num_tokens;
  routing.num_experts = num_experts;
  routing.token_begin.resize(static_cast<std::size_t>(num_tokens) + 1);
  const auto num_assignments = static_cast<std::size_t>(p.capacity * num_experts);
  routing.expert.resize(num_assignments);
  routing.weight.resize(num_assignments);
  if (num_tokens > 0) {
    compute_scores(context, input, p);
    find_bounds(context, p, scope.take<float>(context.threads() * num_tokens));
  }
  count_experts(context, p, routing);
  list_experts(context, p, routing);
}

}  // namespace

Strategy expert_choice_strategy() {
  return {.name = "expert_choice",
          .summary =
              "each expert takes its ceil(choice_capacity * T * K / E) most probable tokens, "
              "weights softmax over the experts; a token may have none",
          .source = "Zhou et al. 2022, arXiv 2202.09368",
          .causal = false,
          .route = route_expert_choice,
          .knobs = "top_k, choice_capacity"};
}

}  // namespace switchyard
