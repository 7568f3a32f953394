#include "routing/routing_reference_rules.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard::reference {
namespace {

Token token_at(const RouterInput& input, std::int64_t t) {
  const auto* x = reinterpret_cast<const float*>(input.logits.row(t));
  Token token{t,
              input.token_ids.empty() ? t : input.token_ids[static_cast<std::size_t>(t)],
              std::vector<double>(x, x + input.logits.cols),
              std::vector<double>(input.bias.begin(), input.bias.end()),
              {}};
  token.bias.resize(token.x.size(), 0.0);
  if (input.noise_logits.data != nullptr) {
    const auto* noise = reinterpret_cast<const float*>(input.noise_logits.row(t));
    token.noise_logits.assign(noise, noise + input.logits.cols);
  }
  return token;
}

}  // namespace

std::vector<Token> tokens_of(const RouterInput& input) {
  std::vector<Token> tokens;
  for (std::int64_t t = 0; t < input.logits.rows; ++t) tokens.push_back(token_at(input, t));
  return tokens;
}

std::vector<int> sorted_columns(const std::vector<double>& value) {
  std::vector<int> order(value.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return value[static_cast<std::size_t>(a)] > value[static_cast<std::size_t>(b)];
  });
  return order;
}

std::vector<int> top(const std::vector<double>& value, int k) {
  std::vector<int> order = sorted_columns(value);
  order.resize(static_cast<std::size_t>(k));
  return order;
}

std::vector<double> picked(const std::vector<double>& value, const std::vector<int>& columns) {
  std::vector<double> out;
  for (const int column : columns) out.push_back(value[static_cast<std::size_t>(column)]);
  return out;
}

std::vector<double> softmax(const std::vector<double>& x, double temperature) {
  const double max = *std::max_element(x.begin(), x.end());
  std::vector<double> out;
  for (const double v : x) {
    const bool at_max = v == max;  // also where both are +inf
    out.push_back(at_max ? 1 : max == kInfinity ? 0 : std::exp((v - max) / temperature));
  }
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& p : out) p /= sum;
  return out;
}

}  // namespace switchyard::reference
