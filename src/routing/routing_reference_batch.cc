#include <algorithm>
#include <cmath>

#include "routing/routing_reference_rules.h"

// The oracle's rules that look at all tokens.

namespace switchyard::reference {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// d1 of Sinkhorn's scaling of exp((x - max) / temperature), see sinkhorn.cc.
std::vector<double> column_factors(const std::vector<Token>& tokens, const RouterParams& params) {
  constexpr double kEpsilon = 1e-8;
  const std::size_t num_experts = tokens[0].x.size();
  std::vector<std::vector<double>> cost;
  for (const Token& token : tokens) {
    const double max = *std::max_element(token.x.begin(), token.x.end());
    auto& row = cost.emplace_back();
    for (const double x : token.x) {
      const double power = std::exp((x - max) / static_cast<double>(params.temperature));
      row.push_back(x == max ? 1 : max == kInfinity ? 0 : power);
    }
  }
  std::vector<double> d1(num_experts, 1.0);
  for (int iteration = 0; iteration < params.sinkhorn_iters; ++iteration) {
    std::vector<double> sum(num_experts, 0.0);
    for (const auto& row : cost) {
      double of_token = 0;
      for (std::size_t e = 0; e < num_experts; ++e) of_token += row[e] * d1[e];
      const double d0 = 1 / static_cast<double>(tokens.size()) / (of_token + kEpsilon);
      for (std::size_t e = 0; e < num_experts; ++e) sum[e] += row[e] * d0;
    }
    for (std::size_t e = 0; e < num_experts; ++e) {
      d1[e] = 1 / static_cast<double>(num_experts) / (sum[e] + kEpsilon);
    }
  }
  return d1;
}

bool same_logits_everywhere(const std::vector<Token>& tokens, int a, int b) {
  return std::all_of(tokens.begin(), tokens.end(),
                     [&](const Token& token) { return token.x[index(a)] == token.x[index(b)]; });
}

}  // namespace

std::vector<Choice> sinkhorn(const std::vector<Token>& tokens, const RouterParams& params) {
  if (tokens.empty()) return {};
  // Of ln(C d1): each round passes on the roundings of exp's argument, up to 87 in size, and of two
  // sums.
  const double close = (4 + 2 * params.sinkhorn_iters) * 64 * 0x1p-24;
  const std::vector<double> d1 = column_factors(tokens, params);
  std::vector<Choice> choices;
  for (const Token& token : tokens) {
    const double max = *std::max_element(token.x.begin(), token.x.end());
    std::vector<double> score;
    for (std::size_t e = 0; e < d1.size(); ++e) {
      const double shifted = max == kInfinity ? token.x[e] : token.x[e] - max;
      score.push_back(shifted / static_cast<double>(params.temperature) + std::log(d1[e]));
    }
    const std::vector<int> order = sorted_columns(score);
    Choice& choice = choices.emplace_back();
    choice.expert = top(score, params.top_k);
    for (std::size_t i = 0; i + 1 < order.size() && i < choice.expert.size(); ++i) {
      const double here = score[index(order[i])], next = score[index(order[i + 1])];
      if (std::isinf(here) || std::isinf(next)) continue;
      choice.close_call |= here - next <= close * std::max(1.0, std::fabs(here)) &&
                           !same_logits_everywhere(tokens, order[i], order[i + 1]);
    }
    choice.weight = picked(token.x, choice.expert);
    if (params.top_k > 1) {
      choice.weight = softmax(choice.weight);
    } else {
      choice.weight[0] = 1 / (1 + std::exp(-choice.weight[0]));
    }
  }
  return choices;
}

}  // namespace switchyard::reference
