#include "routing/routing_reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "routing/routing_reference_rules.h"

namespace switchyard {
namespace {

// Scores of sigmoid_bias closer than this may change order in f32: a few roundings of s + b.
constexpr double kCloseCall = 16 * 0x1p-23;

using reference::Choice;
using reference::kInfinity;
using reference::picked;
using reference::softmax;
using reference::sorted_columns;
using reference::Token;
using reference::top;

using Rule = Choice (*)(const Token& token, const RouterParams& params);

void normalise(std::vector<double>& weight, double epsilon) {
  const double sum = std::accumulate(weight.begin(), weight.end(), epsilon);
  for (double& w : weight) w /= sum;
}

Choice topk_softmax(const Token& token, const RouterParams& params) {
  const std::vector<int> chosen = top(token.x, params.top_k);
  return {chosen,
          params.norm_topk ? softmax(picked(token.x, chosen)) : picked(softmax(token.x), chosen)};
}

Choice top1(const Token& token, const RouterParams&) {
  const std::vector<int> chosen = top(token.x, 1);
  return {chosen, picked(softmax(token.x), chosen)};
}

Choice topk_uniform(const Token& token, const RouterParams& params) {
  return {top(token.x, params.top_k),
          std::vector<double>(static_cast<std::size_t>(params.top_k), 1.0 / params.top_k)};
}

Choice softk(const Token& token, const RouterParams& params) {
  const std::vector<int> chosen = top(token.x, params.top_k);
  return {chosen, softmax(picked(token.x, chosen), params.temperature)};
}

// Scores with the experts outside the best groups at -inf; a group scores the sum of its best few.
struct Grouped {
  std::vector<double> score;
  bool close_call;
};

bool close(double a, double b) { return a - b <= kCloseCall * std::max(1.0, std::fabs(a)); }

Grouped keep_best_groups(std::vector<double> score, const RouterParams& params, int summed) {
  const std::size_t size = score.size() / static_cast<std::size_t>(params.n_group);
  std::vector<double> score_of_group;
  for (std::size_t begin = 0; begin < score.size(); begin += size) {
    std::vector<double> members(score.begin() + static_cast<std::ptrdiff_t>(begin),
                                score.begin() + static_cast<std::ptrdiff_t>(begin + size));
    std::sort(members.rbegin(), members.rend());
    members.resize(std::min(members.size(), static_cast<std::size_t>(summed)));
    score_of_group.push_back(std::accumulate(members.begin(), members.end(), 0.0));
  }
  const std::vector<int> order = sorted_columns(score_of_group);
  bool close_call = false;
  for (std::size_t i = static_cast<std::size_t>(params.topk_group); i < order.size(); ++i) {
    const auto g = static_cast<std::size_t>(order[i]);
    const auto last =
        static_cast<std::size_t>(order[static_cast<std::size_t>(params.topk_group) - 1]);
    close_call |= close(score_of_group[last], score_of_group[g]);
    std::fill_n(score.begin() + static_cast<std::ptrdiff_t>(g * size), size, -kInfinity);
  }
  return {std::move(score), close_call};
}

// Scores of infinite logits: experts left out (-inf) stay behind, +inf outweighs -inf in a sum.
constexpr double kMasked = -1e60;
constexpr double kForced = 3e60;

Choice sigmoid_bias(const Token& token, const RouterParams& params) {
  std::vector<double> s, score;
  for (std::size_t e = 0; e < token.x.size(); ++e) {
    const double x = token.x[e];
    s.push_back(1 / (1 + std::exp(-x)));
    score.push_back(x == kInfinity ? kForced : x == -kInfinity ? kMasked : s[e] + token.bias[e]);
  }
  const Grouped grouped = keep_best_groups(std::move(score), params, 2);
  const std::vector<int> order = sorted_columns(grouped.score);
  Choice choice{top(grouped.score, params.top_k), {}, grouped.close_call};
  for (std::size_t i = 0; i + 1 < order.size() && i < choice.expert.size(); ++i) {
    const double here = grouped.score[static_cast<std::size_t>(order[i])];
    const double next = grouped.score[static_cast<std::size_t>(order[i + 1])];
    choice.close_call |= here != next && close(here, next);
  }
  choice.weight = picked(s, choice.expert);
  if (params.norm_topk) normalise(choice.weight, 1e-20);
  for (double& w : choice.weight) w *= params.routed_scaling_factor;
  return choice;
}

Choice group_limited(const Token& token, const RouterParams& params) {
  std::vector<double> score = token.x;
  for (double& v : score) v = std::clamp(v, kMasked, kForced);
  const std::vector<int> chosen =
      top(keep_best_groups(std::move(score), params, 1).score, params.top_k);
  Choice choice{chosen, picked(softmax(token.x), chosen)};
  if (params.norm_topk) normalise(choice.weight, 0);
  for (double& w : choice.weight) w *= params.routed_scaling_factor;
  return choice;
}

// Philox4x32-10 as Salmon et al. 2011 write it.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::uint64_t seed) {
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * counter[0], b = 0xCD9E8D57ull * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(a)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// K distinct experts: draw j is among the first E - K + j + 1; a repeat becomes the last of them.
Choice drawn(std::int64_t number, std::uint32_t purpose, std::size_t num_experts,
             const RouterParams& params) {
  Choice choice;
  for (int j = 0; j < params.top_k; ++j) {
    const auto low = static_cast<std::uint32_t>(number);
    const auto high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(number) >> 32);
    const auto words = philox({low, high, static_cast<std::uint32_t>(j / 4), purpose}, params.seed);
    const int last = static_cast<int>(num_experts) - params.top_k + j;
    int expert = static_cast<int>(std::uint64_t{words[static_cast<std::size_t>(j % 4)]} *
                                      static_cast<std::uint64_t>(last + 1) >>
                                  32);
    const auto& before = choice.expert;
    if (std::find(before.begin(), before.end(), expert) != before.end()) expert = last;
    choice.expert.push_back(expert);
  }
  choice.weight.assign(static_cast<std::size_t>(params.top_k), 1.0 / params.top_k);
  return choice;
}

Choice hash(const Token& token, const RouterParams& params) {
  return drawn(token.id, 0x68617368u, token.x.size(), params);
}

Choice random(const Token& token, const RouterParams& params) {
  return drawn(token.position, 0x72616e64u, token.x.size(), params);
}

Choice noisy_topk(const Token& token, const RouterParams& params) {
  std::vector<double> noisy = token.x;
  for (std::size_t e = 0; e < noisy.size(); ++e) {
    const auto low = static_cast<std::uint32_t>(token.position);
    const auto high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(token.position) >> 32);
    const auto words =
        philox({low, high, static_cast<std::uint32_t>(e / 4), 0x6e6f6973u}, params.seed);
    const std::size_t pair = e % 4 / 2 * 2;
    const double radius = std::sqrt(-2 * std::log(1 - words[pair] / 4294967296.0));
    const double angle = 2 * std::acos(-1.0) * (words[pair + 1] / 4294967296.0);
    const double normal = radius * (e % 2 == 0 ? std::cos(angle) : std::sin(angle));
    double std = static_cast<double>(params.noise_std);
    if (!token.noise_logits.empty()) {
      const double z = token.noise_logits[e];
      std = z > 0 ? z + std::log1p(std::exp(-z)) : std::log1p(std::exp(z));
    }
    // What is chosen from, and weighed, is held in f32.
    const double most = std::numeric_limits<float>::max();
    if (!std::isinf(noisy[e])) {
      noisy[e] = static_cast<float>(std::clamp(noisy[e] + normal * std, -most, most));
    }
  }
  const std::vector<int> order = sorted_columns(noisy);
  Choice choice{top(noisy, params.top_k), {}};
  for (std::size_t i = 0; i + 1 < order.size() && i < choice.expert.size(); ++i) {
    // Two libraries may differ in the last bit of a sum.
    const double here = noisy[static_cast<std::size_t>(order[i])];
    const double next = noisy[static_cast<std::size_t>(order[i + 1])];
    choice.close_call |= params.noise_std > 0 && here - next <= 0x1p-22 * std::fabs(here);
  }
  choice.weight = softmax(picked(noisy, choice.expert));
  return choice;
}

using BatchRule = std::vector<Choice> (*)(const std::vector<Token>& tokens,
                                          const RouterParams& params);

/// One of the two: a rule for a token, or for all of them.
struct NamedRule {
  std::string_view name;
  Rule rule;
  BatchRule batch_rule = nullptr;
};

constexpr NamedRule kRules[] = {
    {"topk_softmax", topk_softmax},
    {"top1", top1},
    {"topk_uniform", topk_uniform},
    {"softk", softk},
    {"sigmoid_bias", sigmoid_bias},
    {"group_limited", group_limited},
    {"hash", hash},
    {"random", random},
    {"sinkhorn", nullptr, reference::sinkhorn},
    {"expert_choice", nullptr, reference::expert_choice},
    {"base", nullptr, reference::base},
    {"noisy_topk", noisy_topk},
};

const NamedRule& rule_of(std::string_view strategy) {
  for (const NamedRule& named : kRules) {
    if (named.name == strategy) return named;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("strategy '{}' has no reference: expected a built-in one", strategy));
}

}  // namespace

Routing reference_route(std::string_view strategy, const RouterInput& input,
                        const RouterParams& params, std::vector<bool>* close_calls) {
  const NamedRule& named = rule_of(strategy);
  const std::vector<Token> tokens = reference::tokens_of(input);
  std::vector<Choice> choices;
  if (named.rule == nullptr) {
    choices = named.batch_rule(tokens, params);
  } else {
    for (const Token& token : tokens) choices.push_back(named.rule(token, params));
  }
  Routing routing;
  routing.num_tokens = input.logits.rows;
  routing.num_experts = static_cast<int>(input.logits.cols);
  routing.token_begin.push_back(0);
  if (close_calls != nullptr) close_calls->clear();
  for (const Choice& choice : choices) {
    for (const int expert : choice.expert) routing.expert.push_back(expert);
    for (const double weight : choice.weight) routing.weight.push_back(static_cast<float>(weight));
    routing.token_begin.push_back(routing.num_assignments());
    if (close_calls != nullptr) close_calls->push_back(choice.close_call);
  }
  return routing;
}

ReferenceSoftRouting reference_route_soft(std::string_view strategy, ConstMatrixView logits) {
  require(strategy == "soft_moe", "strategy '{}' has no reference: expected soft_moe", strategy);
  const auto num_tokens = static_cast<std::size_t>(logits.rows);
  const auto num_slots = static_cast<std::size_t>(logits.cols);
  const auto at = [&](std::size_t t, std::size_t s) {
    const auto* row = reinterpret_cast<const float*>(logits.row(static_cast<std::int64_t>(t)));
    return static_cast<double>(row[s]);
  };
  ReferenceSoftRouting out;
  for (std::size_t s = 0; s < num_slots; ++s) {
    std::vector<double> column;
    for (std::size_t t = 0; t < num_tokens; ++t) column.push_back(at(t, s));
    if (!column.empty()) column = softmax(column);
    out.dispatch.insert(out.dispatch.end(), column.begin(), column.end());
  }
  for (std::size_t t = 0; t < num_tokens; ++t) {
    std::vector<double> row;
    for (std::size_t s = 0; s < num_slots; ++s) row.push_back(at(t, s));
    row = softmax(row);
    out.combine.insert(out.combine.end(), row.begin(), row.end());
  }
  return out;
}

// f32 scores below 2^-126 are 0, and sigmoid_bias divides them by no less than 1e-20: weights of
// this size (times a routed_scaling_factor of up to 80) may come out as 0.
constexpr double kUnderflow = 0x1p-126 / 1e-20 * 80;

std::string first_difference(const Routing& fast, const Routing& reference, double weight_tol,
                             const std::vector<bool>& close_calls) {
  if (fast.num_tokens != reference.num_tokens || fast.num_experts != reference.num_experts) {
    return fmt::format("routing of {} tokens over {} experts: expected {} over {}", fast.num_tokens,
                       fast.num_experts, reference.num_tokens, reference.num_experts);
  }
  if (fast.token_begin.size() != reference.token_begin.size() ||
      fast.weight.size() != fast.expert.size() ||
      fast.token_begin.back() != fast.num_assignments()) {
    return "token_begin, expert and weight do not fit together";
  }
  for (std::size_t t = 0; t + 1 < reference.token_begin.size(); ++t) {
    if (t < close_calls.size() && close_calls[t]) continue;
    const auto begin = static_cast<std::size_t>(reference.token_begin[t]);
    const auto count = static_cast<std::size_t>(reference.token_begin[t + 1]) - begin;
    const auto fast_begin = static_cast<std::size_t>(fast.token_begin[t]);
    if (static_cast<std::size_t>(fast.token_begin[t + 1]) - fast_begin != count) {
      return fmt::format("token {} has {} experts: expected {}", t,
                         fast.token_begin[t + 1] - fast.token_begin[t], count);
    }
    double largest = 0;
    for (std::size_t i = begin; i < begin + count; ++i) {
      largest = std::max(largest, std::fabs(static_cast<double>(reference.weight[i])));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::int32_t expert = fast.expert[fast_begin + i];
      if (expert != reference.expert[begin + i]) {
        return fmt::format("token {} choice {} is expert {}: expected {}", t, i, expert,
                           reference.expert[begin + i]);
      }
      const float weight = fast.weight[fast_begin + i], expected = reference.weight[begin + i];
      const double error = std::fabs(static_cast<double>(weight) - expected);
      if (!(error <= weight_tol * largest + kUnderflow)) {
        return fmt::format("token {} choice {} has weight {}: expected {}", t, i, weight, expected);
      }
    }
  }
  return {};
}

}  // namespace switchyard
