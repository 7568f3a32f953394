#include "workload/trace_routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/context.h"
#include "workload/random.h"

namespace switchyard {
namespace {

/// First token of a draw. Multiples of a step near n / golden ratio, coprime to n, spread evenly
/// and visit every token before one comes twice.
std::int64_t first_token(std::int64_t num_tokens, std::uint64_t draw) {
  auto step = static_cast<std::int64_t>(0.6180339887 * static_cast<double>(num_tokens)) | 1;
  while (std::gcd(step, num_tokens) != 1) step += 2;
  const auto n = static_cast<std::uint64_t>(num_tokens);
  return static_cast<std::int64_t>(draw % n * (static_cast<std::uint64_t>(step) % n) % n);
}

void copy_tokens(const Trace& trace, std::uint64_t draw, Routing& routing) {
  const auto top_k = static_cast<std::size_t>(trace.top_k);
  std::int64_t from = first_token(trace.tokens, draw);
  for (std::int64_t to = 0; to < routing.num_tokens;) {
    const std::int64_t count = std::min(routing.num_tokens - to, trace.tokens - from);
    const auto source = static_cast<std::size_t>(from) * top_k;
    const auto target = static_cast<std::size_t>(to) * top_k;
    const auto size = static_cast<std::size_t>(count) * top_k;
    std::copy_n(trace.expert.data() + source, size, routing.expert.data() + target);
    if (!trace.weight.empty()) {
      std::copy_n(trace.weight.data() + source, size, routing.weight.data() + target);
    }
    to += count;
    from = 0;
  }
}

/// Takes K experts of one token by systematic sampling (Madow 1949): experts lie in random order on
/// a line, each as long as its probability, and K points one apart are dropped on it.
/// `order` [E] is scratch.
void draw_token(const Philox& random, std::int64_t token, std::span<const double> probability,
                std::span<std::int32_t> order, std::int32_t* out) noexcept {
  const std::size_t experts = order.size();
  const std::uint64_t words_per_token = (experts + 1 + 3) / 4 * 4;
  const std::uint64_t first_word = static_cast<std::uint64_t>(token) * words_per_token;
  std::iota(order.begin(), order.end(), 0);
  Words words{};
  for (std::size_t i = 0; i < experts; ++i) {  // Fisher and Yates
    if (i % 4 == 0) words = random.block((first_word + i) / 4);
    const std::size_t left = experts - i;
    std::swap(order[i], order[i + (std::uint64_t{words[i % 4]} * left >> 32)]);
  }
  // Half a step away from 0 and 1, so that rounding of `end` can neither lose nor add a point.
  double point = Philox::unit(random.word(first_word + experts)) + 0x1p-25;
  double end = 0;
  for (const std::int32_t e : order) {
    end += probability[static_cast<std::size_t>(e)];
    if (point < end) {
      *out++ = e;
      point += 1;
    }
  }
}

void draw_tokens(Context& context, const Trace& trace, int top_k, std::uint64_t seed,
                 std::uint64_t draw, Routing& routing) {
  const std::vector<double> probability = inclusion_probabilities(trace.load, top_k);
  const Philox random = philox_for(Use::trace_tokens, seed, draw);
  Arena::Scope scope(arena_of(context));
  const std::size_t experts = trace.load.size();
  const auto orders = scope.take<std::int32_t>(context.threads() * trace.experts);
  pool_of(context).for_ranges(
      routing.num_tokens, 16, [&](std::int64_t begin, std::int64_t end, int thread) {
        const auto order = orders.subspan(static_cast<std::size_t>(thread) * experts, experts);
        for (std::int64_t t = begin; t < end; ++t) {
          draw_token(random, t, probability, order, routing.expert.data() + t * top_k);
        }
      });
}

}  // namespace

Routing routing_of(Context& context, const Trace& trace, const WorkloadShape& shape,
                   std::uint64_t seed, std::uint64_t draw) {
  require_fits(trace, shape);
  Routing routing;
  routing.num_tokens = shape.tokens;
  routing.num_experts = shape.experts;
  routing.token_begin.resize(static_cast<std::size_t>(shape.tokens) + 1);
  for (std::int64_t t = 0; t <= shape.tokens; ++t) {
    routing.token_begin[static_cast<std::size_t>(t)] = t * shape.top_k;
  }
  const auto num_assignments = static_cast<std::size_t>(shape.tokens * shape.top_k);
  routing.expert.resize(num_assignments);
  routing.weight.assign(num_assignments, 1.0f / static_cast<float>(shape.top_k));
  if (trace.is_loads_only()) {
    draw_tokens(context, trace, shape.top_k, seed, draw, routing);
  } else {
    copy_tokens(trace, draw, routing);
  }
  return routing;
}

void require_fits(const Trace& trace, const WorkloadShape& shape) {
  require(shape.tokens >= 0, "tokens is {}: expected 0 or more", shape.tokens);
  require(trace.experts <= shape.experts,
          "trace {} layer {} has {} experts: expected at most the {} asked for", trace.file,
          trace.layer, trace.experts, shape.experts);
  if (trace.is_loads_only()) {
    const auto active = std::count_if(trace.load.begin(), trace.load.end(),
                                      [](std::int64_t count) { return count > 0; });
    require(shape.top_k >= 1 && shape.top_k <= active,
            "trace {} layer {} has {} experts with load: expected at least the top_k of {}",
            trace.file, trace.layer, active, shape.top_k);
    return;
  }
  require(trace.top_k == shape.top_k,
          "trace {} layer {} has {} experts per token: expected the top_k of {}", trace.file,
          trace.layer, trace.top_k, shape.top_k);
}

std::vector<double> inclusion_probabilities(std::span<const std::int64_t> load, int top_k) {
  std::vector<double> probability(load.begin(), load.end());
  double left = top_k;  // to share among experts below 1
  double sum = std::accumulate(probability.begin(), probability.end(), 0.0);
  std::vector<bool> is_capped(load.size(), false);
  for (bool capped = true; capped;) {
    capped = false;
    const double scale = left / sum;
    for (std::size_t e = 0; e < load.size(); ++e) {
      if (is_capped[e] || load[e] == 0) continue;
      if (static_cast<double>(load[e]) * scale <= 1) continue;
      is_capped[e] = capped = true;
      left -= 1;
      sum -= static_cast<double>(load[e]);
    }
  }
  for (std::size_t e = 0; e < load.size(); ++e) {
    probability[e] = is_capped[e]   ? 1
                     : load[e] == 0 ? 0
                                    : static_cast<double>(load[e]) * left / sum;
  }
  return probability;
}

std::vector<std::string> notes_on(const Trace& trace, const WorkloadShape& shape) {
  std::vector<std::string> notes = trace.notes;
  if (trace.is_loads_only()) {
    const std::vector<double> probability = inclusion_probabilities(trace.load, shape.top_k);
    const auto capped = std::count(probability.begin(), probability.end(), 1.0);
    if (capped > 0) {
      notes.push_back(fmt::format(
          "{} experts have more than 1/{} of the load: every token takes them, others share the "
          "rest",
          capped, shape.top_k));
    }
  } else if (shape.tokens > trace.tokens) {
    notes.push_back(fmt::format(
        "trace has {} tokens: repeated {:.3g} times to {}", trace.tokens,
        static_cast<double>(shape.tokens) / static_cast<double>(trace.tokens), shape.tokens));
  } else if (shape.tokens < trace.tokens) {
    notes.push_back(fmt::format("trace has {} tokens: each draw takes {} in a row", trace.tokens,
                                shape.tokens));
  }
  return notes;
}

}  // namespace switchyard
