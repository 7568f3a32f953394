#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

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

double sinkhorn_column_error(const RouterInput& input, const RouterParams& params) {
  const std::vector<Token> tokens = tokens_of(input);
  const std::vector<double> d1 = column_factors(tokens, params);
  std::vector<double> sum(d1.size(), 0.0);
  for (const Token& token : tokens) {
    std::vector<double> row;
    for (std::size_t e = 0; e < d1.size(); ++e) {
      row.push_back(token.x[e] / static_cast<double>(params.temperature) + std::log(d1[e]));
    }
    row = softmax(row);
    for (std::size_t e = 0; e < d1.size(); ++e) sum[e] += row[e];
  }
  double error = 0;
  for (const double s : sum) {
    const double share = s * static_cast<double>(sum.size()) / static_cast<double>(tokens.size());
    error = std::max(error, std::fabs(share - 1));
  }
  return error;
}

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
    for (std::size_t i = 0; i < choice.expert.size(); ++i) {
      const double here = score[index(order[i])];
      if (std::isinf(here)) continue;
      const double least = here - close * std::max(1.0, std::fabs(here));
      for (std::size_t j = i + 1; j < order.size() && score[index(order[j])] >= least; ++j) {
        choice.close_call |= !same_logits_everywhere(tokens, order[i], order[j]);
      }
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

namespace {

// ln of the softmax over the experts.
std::vector<double> log_probabilities(const Token& token) {
  const double max = *std::max_element(token.x.begin(), token.x.end());
  double sum = 0;
  std::vector<double> out;
  for (const double x : token.x) {
    out.push_back(x == max ? 0 : max == kInfinity ? -kInfinity : x - max);
    sum += std::exp(out.back());
  }
  for (double& score : out) score -= std::log(sum);
  return out;
}

// Marks the tokens whose place above or below the capacity of expert e hangs on a rounding of f32:
// those near the last one taken, unless they all have the same logits.
void mark_close_calls(const std::vector<Token>& tokens,
                      const std::vector<std::vector<double>>& score, std::size_t e,
                      const std::vector<std::size_t>& order, std::size_t capacity,
                      std::vector<Choice>& choices) {
  const Token& last = tokens[order[capacity - 1]];
  const double bound = score[order[capacity - 1]][e];
  bool cuts = false, differ = false;
  std::vector<std::size_t> near;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const double s = score[order[i]][e];
    if (s != bound && !(std::fabs(s - bound) <= 32 * 0x1p-24 * (4 + std::fabs(bound)))) continue;
    near.push_back(order[i]);
    cuts |= i >= capacity;
    differ |= tokens[order[i]].x != last.x && !std::isinf(bound);
  }
  if (!cuts || !differ) return;
  for (const std::size_t t : near) choices[t].close_call = true;
}

}  // namespace

std::vector<Choice> expert_choice(const std::vector<Token>& tokens, const RouterParams& params) {
  if (tokens.empty()) return {};
  const std::size_t num_experts = tokens[0].x.size();
  const double wanted =
      std::ceil(params.choice_capacity * (static_cast<double>(tokens.size()) * params.top_k) /
                static_cast<double>(num_experts));
  const auto capacity =
      static_cast<std::size_t>(std::min(wanted, static_cast<double>(tokens.size())));
  std::vector<std::vector<double>> score;
  for (const Token& token : tokens) score.push_back(log_probabilities(token));
  std::vector<Choice> choices(tokens.size());
  for (std::size_t e = 0; e < num_experts; ++e) {
    std::vector<std::size_t> order(tokens.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return score[a][e] > score[b][e]; });
    for (std::size_t i = 0; i < capacity; ++i) {
      choices[order[i]].expert.push_back(static_cast<int>(e));
    }
    mark_close_calls(tokens, score, e, order, capacity, choices);
  }
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const auto score_of = [&](int e) { return score[t][index(e)]; };
    std::vector<int>& expert = choices[t].expert;
    std::stable_sort(expert.begin(), expert.end(),
                     [&](int a, int b) { return score_of(a) > score_of(b); });
    for (const int e : expert) choices[t].weight.push_back(std::exp(score_of(e)));
  }
  return choices;
}

namespace {

// The auction of base.cc, with lists for heaps.
class Auction {
 public:
  Auction(std::vector<std::vector<double>> cost, std::size_t num_experts)
      : cost_(std::move(cost)), num_experts_(num_experts), price_(2 * num_experts, 0.0) {
    const std::size_t remainder = cost_.size() % num_experts;
    slots_.assign(num_experts, cost_.size() / num_experts);
    slots_.resize(2 * num_experts, remainder == 0 ? 0 : 1);
    num_bidders_ = cost_.size() + (remainder == 0 ? 0 : num_experts - remainder);
  }

  void round(double eps) {
    holders_.assign(2 * num_experts_, {});
    for (std::size_t bidder = 0; bidder < num_bidders_; ++bidder) {
      for (std::size_t enters = bidder; enters != kNobody;) enters = bid(enters, eps);
    }
  }

  std::vector<int> expert_of_token() const {
    std::vector<int> out(cost_.size());
    for (std::size_t kind = 0; kind < holders_.size(); ++kind) {
      for (const auto& [level, bidder] : holders_[kind]) {
        if (bidder < out.size()) out[bidder] = static_cast<int>(kind % num_experts_);
      }
    }
    return out;
  }

 private:
  static constexpr std::size_t kNobody = SIZE_MAX;

  std::size_t bid(std::size_t bidder, double eps) {
    // (what it costs, kind), in order of the expert, then of the kind.
    std::vector<std::pair<double, std::size_t>> offers;
    for (std::size_t e = 0; e < num_experts_; ++e) {
      for (const std::size_t kind : {e, num_experts_ + e}) {
        const bool is_token = bidder < cost_.size();
        if (slots_[kind] == 0 || (!is_token && kind == e)) continue;
        offers.emplace_back((is_token ? cost_[bidder][e] : 0) + price_[kind], kind);
      }
    }
    std::stable_sort(offers.begin(), offers.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    const std::size_t kind = offers[0].second;
    const double rise = offers.size() > 1 ? offers[1].first - offers[0].first : 0;
    auto& held = holders_[kind];
    std::size_t leaves = kNobody;
    const double level = price_[kind] + rise + eps;
    if (held.size() == slots_[kind]) {
      const auto cheapest = std::min_element(held.begin(), held.end(), is_cheaper);
      leaves = cheapest->second;
      held.erase(cheapest);
    }
    held.emplace_back(level, bidder);
    if (held.size() == slots_[kind]) {
      price_[kind] = std::min_element(held.begin(), held.end(), is_cheaper)->first;
    }
    return leaves;
  }

  using Holder = std::pair<double, std::size_t>;
  static bool is_cheaper(const Holder& a, const Holder& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;
  }

  std::vector<std::vector<double>> cost_;
  std::size_t num_experts_, num_bidders_;
  std::vector<double> price_;
  std::vector<std::size_t> slots_;
  std::vector<std::vector<Holder>> holders_;
};

}  // namespace

std::vector<Choice> base(const std::vector<Token>& tokens, const RouterParams&) {
  if (tokens.empty()) return {};
  const std::size_t num_experts = tokens[0].x.size();
  const double forbidden = (2 * static_cast<double>(num_experts) + 2) * 0x1p20;
  double range = 0;
  for (const Token& token : tokens) {
    const double max = *std::max_element(token.x.begin(), token.x.end());
    for (const double x : token.x) {
      if (std::isfinite(max - x)) range = std::max(range, max - x);
    }
  }
  bool any_forbidden = false;
  std::vector<std::vector<double>> cost;
  for (const Token& token : tokens) {
    const double max = *std::max_element(token.x.begin(), token.x.end());
    auto& row = cost.emplace_back();
    for (const double x : token.x) {
      const double below = x == max ? 0 : max - x;
      any_forbidden |= std::isinf(below);
      row.push_back(std::isinf(below) ? forbidden
                    : below == 0      ? 0
                                      : std::floor(0x1p20 * (below / range) + 0.5));
    }
  }
  Auction auction(std::move(cost), num_experts);
  for (double eps = (any_forbidden ? forbidden : 0x1p20) / 4; eps > 1; eps = std::ceil(eps / 4)) {
    auction.round(eps);
  }
  auction.round(1);
  const std::vector<int> expert = auction.expert_of_token();
  std::vector<Choice> choices;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const double x = tokens[t].x[index(expert[t])];
    choices.push_back({{expert[t]}, {1 / (1 + std::exp(-x))}});
  }
  return choices;
}

}  // namespace switchyard::reference
