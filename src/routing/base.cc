#include <algorithm>
#include <cmath>

#include "routing/select.h"

// Every token to one expert so that experts are balanced and the sum of the chosen logits is
// largest. An expert gets floor(T/E) or ceil(T/E) tokens, T/E where E divides T; which experts get
// one more is part of what is optimised. The weight is sigmoid(logit). top_k does not matter. BASE
// layers: Lewis et al. 2021, arXiv 2103.16716. Not causal: later tokens compete for the experts.
//
// Solved by auction (Bertsekas 1988; tokens bid for the slots of an expert, which are alike:
// Bertsekas and Castanon 1989). In whole numbers, so that it ends and that any machine finds the
// same:
//
// Costs. D is the largest max_t - x_te over the finite x_te of tokens without +inf, and
//   c_te = floor(2^20 (max_t - x_te) / D + 1/2)
// for those (0 for D = 0). A token with +inf has cost 0 there. What is left (-inf, and finite
// logits beside +inf) costs M = (2E + 2) 2^20: more than moving every expert's worth of others, so
// it is chosen only when balance leaves nothing else.
//
// Slots. Each expert has floor(T/E) slots that must be filled by tokens. Where E does not divide T
// it has one more, the extra one, and E - T mod E dummies, which cost nothing anywhere, bid for
// extra slots only.
//
// Auction. Slots of a kind have one price, that of the cheapest of them; a slot costs what was bid
// for it, and before that what the kind cost at the start. Tokens and then dummies enter by number.
// Who enters finds the kind of least c + price, w1, and the least of the other kinds, w2, ties to
// the lower expert and to the slots before the extra one; takes the kind's cheapest slot and bids
// price + (w2 - w1) + eps. Who held it enters next; of holders with the same bid the highest number
// goes. eps falls from 2^18 (M/4 where infinities forbid choices) by factors of 4 to 1; each round
// begins with the kinds' prices of the last one.
//
// Bounds. The total is within T (2 D 2^-20) of the largest possible. A bid raises a slot by at
// least eps and no price rises past the price of a free kind by more than M + eps, so a round has
// at most T (1 + (M + 2^20) / eps) bids; starting from the prices of the last round, a price rises
// by no more than O(E eps), which leaves O(T E) bids per round, O(T E (E + log T)) time each.
// Random logits take a few bids per token and round. Bids depend on the bids before them: the
// auction runs on one thread.

namespace switchyard {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kUnits = 0x1p20;  // costs from best to worst logit
constexpr double kNever = std::numeric_limits<double>::infinity();

/// Costs and prices are whole numbers far below 2^53, exact in double; costs also in f32.
struct Costs {
  std::int64_t num_tokens;
  int num_experts;
  double forbidden;       // M
  std::span<float> cost;  // [T, E]
  bool has_forbidden = false;
};

struct Held {
  double bid;
  std::int32_t bidder;  // tokens, then dummies
};

// Heaps of the cheapest on top; of those the highest number.
bool is_dearer(const Held& a, const Held& b) noexcept {
  return a.bid != b.bid ? a.bid > b.bid : a.bidder < b.bidder;
}

/// Kinds of slots: e < E those of expert e, E + e its extra one.
struct Market {
  std::span<double> price;        // [2E]; infinite where there is no slot
  std::span<std::int64_t> held;   // [2E]: slots taken
  std::span<std::int64_t> begin;  // [2E + 1]: a kind's slots
  std::span<Held> holders;        // [slots], a heap for each kind

  std::int64_t num_slots(int kind) const noexcept {
    const auto k = static_cast<std::size_t>(kind);
    return begin[k + 1] - begin[k];
  }
};

struct Best {
  int kind = 0;
  double least = kNever, second = kNever;
};

void consider(double worth, int kind, Best& best) noexcept {
  if (worth < best.least) {
    best.second = best.least;
    best.least = worth;
    best.kind = kind;
  } else {
    best.second = std::min(best.second, worth);
  }
}

/// `cost` is null for a dummy.
Best best_of(const float* cost, const double* price, int num_experts, bool has_extra) noexcept {
  Best best;
  for (int e = 0; e < num_experts; ++e) {
    if (cost == nullptr) {
      consider(price[num_experts + e], num_experts + e, best);
      continue;
    }
    consider(static_cast<double>(cost[e]) + price[e], e, best);
    if (has_extra) {
      consider(static_cast<double>(cost[e]) + price[num_experts + e], num_experts + e, best);
    }
  }
  // A single kind has no rival: any bid will do.
  if (best.second == kNever) best.second = best.least;
  return best;
}

/// Takes the kind's cheapest slot. Returns who has to leave it, or -1.
std::int32_t take_slot(Market& market, int kind, const Held& bid) noexcept {
  const auto k = static_cast<std::size_t>(kind);
  Held* const heap = market.holders.data() + market.begin[k];
  const std::int64_t num_slots = market.num_slots(kind);
  std::int32_t leaves = -1;
  if (market.held[k] == num_slots) {
    std::pop_heap(heap, heap + num_slots, is_dearer);
    leaves = heap[num_slots - 1].bidder;
    heap[num_slots - 1] = bid;
  } else {
    heap[market.held[k]++] = bid;
  }
  std::push_heap(heap, heap + market.held[k], is_dearer);
  if (market.held[k] == num_slots) market.price[k] = heap[0].bid;
  return leaves;
}

void run_round(const Costs& costs, std::int64_t num_bidders, double eps, Market& market) noexcept {
  const bool has_extra = market.num_slots(costs.num_experts) > 0;
  std::fill(market.held.begin(), market.held.end(), 0);
  for (std::int64_t enters = 0; enters < num_bidders; ++enters) {
    auto bidder = static_cast<std::int32_t>(enters);
    while (bidder >= 0) {
      const float* cost = bidder < costs.num_tokens
                              ? costs.cost.data() + std::int64_t{bidder} * costs.num_experts
                              : nullptr;
      const Best best = best_of(cost, market.price.data(), costs.num_experts, has_extra);
      const double price = market.price[static_cast<std::size_t>(best.kind)];
      bidder = take_slot(market, best.kind, {price + (best.second - best.least) + eps, bidder});
    }
  }
}

void open_market(const Costs& costs, Arena::Scope& scope, Market& market) {
  const int num_experts = costs.num_experts;
  const std::int64_t slots = costs.num_tokens / num_experts;
  const std::int64_t extra = costs.num_tokens % num_experts == 0 ? 0 : 1;
  market.price = scope.take<double>(2 * num_experts);
  market.held = scope.take<std::int64_t>(2 * num_experts);
  market.begin = scope.take<std::int64_t>(2 * num_experts + 1);
  market.holders = scope.take<Held>((slots + extra) * num_experts);
  for (std::int64_t kind = 0; kind <= 2 * num_experts; ++kind) {
    market.begin[static_cast<std::size_t>(kind)] =
        std::min<std::int64_t>(kind, num_experts) * slots +
        std::max<std::int64_t>(0, kind - num_experts) * extra;
  }
  for (int kind = 0; kind < 2 * num_experts; ++kind) {
    market.price[static_cast<std::size_t>(kind)] = market.num_slots(kind) > 0 ? 0 : kNever;
  }
}

// Writes each token's expert.
void assign(const Costs& costs, Market& market, std::span<std::int32_t> expert) {
  const std::int64_t remainder = costs.num_tokens % costs.num_experts;
  const std::int64_t num_bidders =
      costs.num_tokens + (remainder == 0 ? 0 : costs.num_experts - remainder);
  double eps = (costs.has_forbidden ? costs.forbidden : kUnits) / 4;
  for (; eps > 1; eps = std::ceil(eps / 4)) run_round(costs, num_bidders, eps, market);
  run_round(costs, num_bidders, 1, market);
  for (int kind = 0; kind < 2 * costs.num_experts; ++kind) {
    for (std::int64_t s = market.begin[static_cast<std::size_t>(kind)];
         s < market.begin[static_cast<std::size_t>(kind) + 1]; ++s) {
      const std::int32_t bidder = market.holders[static_cast<std::size_t>(s)].bidder;
      if (bidder >= costs.num_tokens) continue;
      expert[static_cast<std::size_t>(bidder)] =
          static_cast<std::int32_t>(kind % costs.num_experts);
    }
  }
}

/// Largest finite max - x of a token; -1 where there is none.
double range_of(const float* x, float max, int num_experts) noexcept {
  if (max == kInfinity) return -1;
  float least = max;
  for (int e = 0; e < num_experts; ++e) {
    if (x[e] != -kInfinity) least = std::min(least, x[e]);
  }
  return static_cast<double>(max) - static_cast<double>(least);
}

void cost_row(const float* x, float max, double range, Costs& costs, float* cost) noexcept {
  for (int e = 0; e < costs.num_experts; ++e) {
    const double below = static_cast<double>(max) - static_cast<double>(x[e]);
    const double units = range > 0 ? std::floor(kUnits * (below / range) + 0.5) : 0;
    const bool is_forbidden = x[e] == -kInfinity || (max == kInfinity && x[e] != kInfinity);
    cost[e] = static_cast<float>(x[e] == max ? 0 : is_forbidden ? costs.forbidden : units);
  }
}

// The weights' place holds the largest logits meanwhile.
void compute_costs(Context& context, const RouterInput& input, Arena::Scope& scope,
                   std::span<float> max, Costs& costs) {
  const TopkKernel topk = topk_variant(context.isa()).topk;
  const auto ranges = scope.take<double>(context.threads());
  std::fill(ranges.begin(), ranges.end(), -1.0);
  FirstBad bad;
  pool_of(context).for_ranges(
      costs.num_tokens, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int thread) {
        double range = -1;
        for (std::int64_t t = begin; t < end; t += kBlockTokens) {
          const int count = static_cast<int>(std::min<std::int64_t>(kBlockTokens, end - t));
          float weight[kBlockTokens];
          std::int32_t expert[kBlockTokens];
          Block block{t, count, 1, expert, weight, max.data() + t, nullptr};
          const std::int64_t token =
              select_block(topk, input, 1.0f, block, max.data() + t, nullptr);
          if (token >= 0) return bad.note(token);
          for (int row = 0; row < count; ++row) {
            range = std::max(
                range, range_of(logits_of(input, t + row), block.max[row], costs.num_experts));
          }
        }
        ranges[static_cast<std::size_t>(thread)] = range;
      });
  bad.throw_if_any(input);
  const double range = *std::max_element(ranges.begin(), ranges.end());
  std::atomic<bool> has_forbidden{false};
  pool_of(context).for_ranges(
      costs.num_tokens, kBlockTokens, [&](std::int64_t begin, std::int64_t end, int) {
        const auto forbidden = static_cast<float>(costs.forbidden);
        for (std::int64_t t = begin; t < end; ++t) {
          float* cost = costs.cost.data() + t * costs.num_experts;
          cost_row(logits_of(input, t), max[static_cast<std::size_t>(t)], range, costs, cost);
          if (std::find(cost, cost + costs.num_experts, forbidden) != cost + costs.num_experts) {
            has_forbidden.store(true, std::memory_order_relaxed);
          }
        }
      });
  costs.has_forbidden = has_forbidden.load();
}

void route_base(Context& context, const RouterInput& input, const RouterParams&, Routing& routing) {
  shape_top_k(input, 1, routing);
  const std::int64_t num_tokens = input.logits.rows;
  if (num_tokens == 0) return;
  const int num_experts = static_cast<int>(input.logits.cols);
  Arena::Scope scope(arena_of(context));
  Costs costs{num_tokens, num_experts, (2.0 * num_experts + 2) * kUnits,
              scope.take<float>(num_tokens * num_experts)};
  compute_costs(context, input, scope, routing.weight, costs);
  Market market;
  open_market(costs, scope, market);
  assign(costs, market, routing.expert);
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    const auto i = static_cast<std::size_t>(t);
    routing.weight[i] = logits_of(input, t)[routing.expert[i]];
  }
  topk_variant(context.isa()).sigmoid(routing.weight.data(), num_tokens, routing.weight.data());
}

}  // namespace

Strategy base_strategy() {
  return {.name = "base",
          .summary =
              "one expert per token, T/E tokens per expert (rounded down or up), largest sum of "
              "logits, by auction; weight sigmoid(logit); top_k is not used",
          .source = "BASE layers, Lewis et al. 2021, arXiv 2103.16716",
          .causal = false,
          .route = route_base};
}

}  // namespace switchyard
