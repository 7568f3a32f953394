#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/philox.h"
#include "switchyard/routing.h"

namespace switchyard {

/// For tests: how a random routing looks.
struct RandomRouting {
  std::uint64_t seed = 17;
  std::int64_t tokens = 0;
  int experts = 1;
  int top_k = 1;
  bool ragged = false;     ///< 0 .. top_k experts per token rather than top_k
  int crowded = 0;         ///< that many first experts take what they can of every token
  bool normalise = false;  ///< a token's weights sum to 1
};

/// Weights are multiples of 1/8 from 1/8 to 1, so that there are many ties (unless normalised).
inline Routing random_routing(const RandomRouting& config) {
  Routing routing;
  routing.num_tokens = config.tokens;
  routing.num_experts = config.experts;
  routing.token_begin.push_back(0);
  const Philox random(config.seed, 0);
  std::uint64_t drawn = 0;
  const auto below = [&](int n) {
    return static_cast<int>(random.word(drawn++) % static_cast<unsigned>(n));
  };
  std::vector<std::int32_t> experts(static_cast<std::size_t>(config.experts));
  std::iota(experts.begin(), experts.end(), 0);
  for (std::int64_t t = 0; t < config.tokens; ++t) {
    const int most = std::min(config.top_k, config.experts);
    const int count = config.ragged ? below(most + 1) : most;
    float sum = 0;
    for (int k = 0; k < count; ++k) {
      if (k < config.crowded) {
        std::swap(experts[k], *std::ranges::find(experts, k));
      } else {
        std::swap(experts[k], experts[k + below(config.experts - k)]);
      }
      routing.expert.push_back(experts[k]);
      routing.weight.push_back(static_cast<float>(1 + below(8)) / 8);
      sum += routing.weight.back();
    }
    routing.token_begin.push_back(routing.num_assignments());
    if (!config.normalise) continue;
    for (auto w = routing.weight.end() - count; w != routing.weight.end(); ++w) *w /= sum;
  }
  return routing;
}

}  // namespace switchyard
