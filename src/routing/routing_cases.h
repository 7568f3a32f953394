#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "base/philox.h"
#include "switchyard/routing.h"

// Random routing problems for the tests of this folder.

namespace switchyard {

enum class Logits { normal, ties, equal, infinities, zeros, large, count };

struct RoutingCase {
  std::int64_t num_tokens = 0, row_stride = 0;
  int num_experts = 0;
  std::vector<float> logits, bias;
  std::vector<std::int64_t> token_ids;
  RouterParams params;

  RouterInput input() const {
    return {ConstMatrixView(reinterpret_cast<const std::byte*>(logits.data()), DType::f32,
                            num_tokens, num_experts, row_stride),
            bias, token_ids};
  }
};

inline float draw_logit(Logits kind, const Philox& random, std::uint64_t i) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float uniform = random.uniform(i);
  switch (kind) {
    case Logits::ties: return static_cast<float>(static_cast<int>(4 * uniform));
    case Logits::equal: return 1.25f;
    case Logits::infinities: return uniform < 0.3f ? -kInf : uniform > 0.9f ? kInf : 4 * uniform;
    case Logits::zeros: return uniform < 0.5f ? -0.0f : 0.0f;
    case Logits::large: return 300 * random.normal(i);
    default: return 2 * random.normal(i);
  }
}

/// The case that `seed` stands for: every row has a logit above -inf, gaps between rows are NaN.
inline RoutingCase make_case(std::uint64_t seed, Logits kind, std::int64_t num_tokens,
                             int num_groups, int group_size, int gap) {
  RoutingCase c;
  const Philox random(seed, 1), more(seed, 2);
  c.num_tokens = num_tokens;
  c.num_experts = num_groups * group_size;
  c.row_stride = c.num_experts + gap;
  c.logits.assign(static_cast<std::size_t>(num_tokens * c.row_stride),
                  std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    float* row = c.logits.data() + t * c.row_stride;
    for (int e = 0; e < c.num_experts; ++e) {
      row[e] = draw_logit(kind, random, static_cast<std::uint64_t>(t * c.num_experts + e));
    }
    if (kind == Logits::infinities) row[t % c.num_experts] = 0.5f;
    c.token_ids.push_back(more.word(static_cast<std::uint64_t>(t)) % 1000);
  }
  for (int e = 0; e < c.num_experts; ++e) {
    c.bias.push_back(0.1f * more.normal(static_cast<std::uint64_t>(e)));
  }
  const auto pick = [&](std::uint64_t i, int most) {
    return 1 + static_cast<int>(more.word(i + 100000) % static_cast<std::uint32_t>(most));
  };
  c.params.n_group = num_groups;
  c.params.topk_group = pick(0, num_groups);
  c.params.top_k = pick(1, std::min(16, c.params.topk_group * group_size));
  c.params.norm_topk = pick(2, 2) == 1;
  c.params.temperature = 0.25f * static_cast<float>(pick(3, 8));
  c.params.routed_scaling_factor = 0.5f * static_cast<float>(pick(4, 5));
  c.params.seed = seed;
  c.params.sinkhorn_iters = pick(5, 12);
  c.params.choice_capacity = 0.25 * pick(6, 8);
  c.params.noise_std = 0.5f * static_cast<float>(pick(7, 4));
  return c;
}

}  // namespace switchyard
