#include "switchyard/losses.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "plan/validate_routing.h"
#include "routing/select.h"

namespace switchyard {
namespace {

/// Tokens whose terms are added up by one thread; pieces are then added in order, so that bits do
/// not depend on the number of threads.
constexpr std::int64_t kPieceTokens = 256;

std::int64_t num_pieces(std::int64_t num_tokens, std::int64_t piece) {
  return (num_tokens + piece - 1) / piece;
}

/// Calls work(piece, begin, end, thread) on every piece, in parallel.
template <class Work>
void for_pieces(Context& context, std::int64_t num_tokens, std::int64_t piece, Work&& work) {
  pool_of(context).for_each(num_pieces(num_tokens, piece), [&](std::int64_t i, int thread) {
    work(i, i * piece, std::min(num_tokens, (i + 1) * piece), thread);
  });
}

/// The largest logit, NaN when there is one.
float max_of(const float* x, std::int64_t count) noexcept {
  float max = x[0];
  for (std::int64_t e = 1; e < count; ++e) max = x[e] <= max ? max : std::isnan(max) ? max : x[e];
  return max;
}

bool has_probabilities(float max) noexcept { return max > -std::numeric_limits<float>::infinity(); }

/// exp(x - max), 1 at the maximum even where it is infinite.
double softmax_term(double x, double max) noexcept { return x == max ? 1 : std::exp(x - max); }

/// sigmoid(x) / sigmoid(max) for x <= max, without overflow or a quotient of two tiny numbers.
double sigmoid_term(double x, double max) noexcept {
  if (max >= 0) return (1 + std::exp(-max)) / (1 + std::exp(-x));
  return std::exp(x - max) * (1 + std::exp(max)) / (1 + std::exp(x));
}

/// sum[e] += p[t, e] for t in [begin, end); `term` is [E]. Returns the first token whose logits
/// have no probabilities, or -1.
std::int64_t add_probabilities(ConstMatrixView logits, Affinity affinity, std::int64_t begin,
                               std::int64_t end, double* term, double* sum) noexcept {
  for (std::int64_t t = begin; t < end; ++t) {
    const auto* x = reinterpret_cast<const float*>(logits.row(t));
    const float max = max_of(x, logits.cols);
    if (!has_probabilities(max)) return t;
    double total = 0;
    for (std::int64_t e = 0; e < logits.cols; ++e) {
      term[e] = affinity == Affinity::softmax ? softmax_term(x[e], max) : sigmoid_term(x[e], max);
      total += term[e];
    }
    for (std::int64_t e = 0; e < logits.cols; ++e) sum[e] += term[e] / total;
  }
  return -1;
}

/// E * sum over i of (n_i / A) * (sum_i / T); 0 without assignments.
double balance(std::span<const double> probability_sum, std::span<const std::int64_t> assigned,
               std::int64_t num_tokens) noexcept {
  const auto all =
      static_cast<double>(std::accumulate(assigned.begin(), assigned.end(), std::int64_t{0}));
  if (!(all > 0)) return 0;
  double dot = 0;
  for (std::size_t e = 0; e < assigned.size(); ++e) {
    dot += static_cast<double>(assigned[e]) * probability_sum[e];
  }
  return static_cast<double>(assigned.size()) * dot / (all * static_cast<double>(num_tokens));
}

void count_assignments(const Routing& routing, std::int64_t begin, std::int64_t end,
                       std::span<std::int64_t> assigned) noexcept {
  std::ranges::fill(assigned, 0);
  const auto first = static_cast<std::size_t>(routing.token_begin[static_cast<std::size_t>(begin)]);
  const auto last = static_cast<std::size_t>(routing.token_begin[static_cast<std::size_t>(end)]);
  for (std::size_t a = first; a < last; ++a) {
    ++assigned[static_cast<std::size_t>(routing.expert[a])];
  }
}

void require_logits(ConstMatrixView logits) {
  require(logits.dtype == DType::f32, "logits are {}: expected f32", name_of(logits.dtype));
  require(logits.rows >= 0 && logits.cols >= 1, "logits are [{}, {}]: expected [T, E]", logits.rows,
          logits.cols);
  require_shape("logits", logits, logits.rows, logits.cols);
}

void require_fits(Context& context, ConstMatrixView logits, const Routing& routing) {
  require_logits(logits);
  require(routing.num_tokens == logits.rows && routing.num_experts == logits.cols,
          "routing is of {} tokens over {} experts: expected {} over {}, as the logits",
          routing.num_tokens, routing.num_experts, logits.rows, logits.cols);
  validate_routing(context, routing);
}

RouterInput input_of(ConstMatrixView logits) {
  return {.logits = logits, .bias = {}, .token_ids = {}};
}

std::span<double> row_of(std::span<double> table, std::int64_t row, std::int64_t cols) {
  return table.subspan(static_cast<std::size_t>(row * cols), static_cast<std::size_t>(cols));
}

}  // namespace

double z_loss(Context& context, ConstMatrixView logits, double coefficient) {
  require_logits(logits);
  if (logits.rows == 0) return 0;
  Arena::Scope scope(arena_of(context));
  const auto sums = scope.take<double>(num_pieces(logits.rows, kPieceTokens));
  FirstBad bad;
  for_pieces(context, logits.rows, kPieceTokens,
             [&](std::int64_t piece, std::int64_t begin, std::int64_t end, int) {
               double sum = 0;
               for (std::int64_t t = begin; t < end; ++t) {
                 const auto* x = reinterpret_cast<const float*>(logits.row(t));
                 const double max = max_of(x, logits.cols);
                 if (!has_probabilities(static_cast<float>(max))) return bad.note(t);
                 double total = 0;
                 for (std::int64_t e = 0; e < logits.cols; ++e) total += softmax_term(x[e], max);
                 const double log_sum = max + std::log(total);
                 sum += log_sum * log_sum;
               }
               sums[static_cast<std::size_t>(piece)] = sum;
             });
  bad.throw_if_any(input_of(logits));
  return coefficient * std::accumulate(sums.begin(), sums.end(), 0.0) /
         static_cast<double>(logits.rows);
}

double balance_loss(Context& context, ConstMatrixView logits, const Routing& routing,
                    Affinity affinity, double coefficient) {
  require_fits(context, logits, routing);
  if (logits.rows == 0) return 0;
  const std::int64_t num_experts = logits.cols, pieces = num_pieces(logits.rows, kPieceTokens);
  Arena::Scope scope(arena_of(context));
  const auto sums = scope.take<double>(pieces * num_experts);
  const auto terms = scope.take<double>(context.threads() * num_experts);
  std::ranges::fill(sums, 0.0);
  FirstBad bad;
  for_pieces(context, logits.rows, kPieceTokens,
             [&](std::int64_t piece, std::int64_t begin, std::int64_t end, int thread) {
               const std::int64_t token = add_probabilities(
                   logits, affinity, begin, end, row_of(terms, thread, num_experts).data(),
                   row_of(sums, piece, num_experts).data());
               if (token >= 0) bad.note(token);
             });
  bad.throw_if_any(input_of(logits));
  const auto all = row_of(sums, 0, num_experts);
  for (std::int64_t piece = 1; piece < pieces; ++piece) {
    const auto part = row_of(sums, piece, num_experts);
    for (std::size_t e = 0; e < all.size(); ++e) all[e] += part[e];
  }
  const auto assigned = scope.take<std::int64_t>(num_experts);
  count_assignments(routing, 0, logits.rows, assigned);
  return coefficient * balance(all, assigned, logits.rows);
}

double sequence_balance_loss(Context& context, ConstMatrixView logits, const Routing& routing,
                             Affinity affinity, std::int64_t sequence_length, double coefficient) {
  require_fits(context, logits, routing);
  require(sequence_length >= 1, "sequence_length is {}: expected 1 or more", sequence_length);
  if (logits.rows == 0) return 0;
  sequence_length = std::min(sequence_length, logits.rows);
  const std::int64_t num_experts = logits.cols, threads = context.threads();
  Arena::Scope scope(arena_of(context));
  const auto losses = scope.take<double>(num_pieces(logits.rows, sequence_length));
  const auto sums = scope.take<double>(threads * num_experts);
  const auto terms = scope.take<double>(threads * num_experts);
  const auto counts = scope.take<std::int64_t>(threads * num_experts);
  FirstBad bad;
  for_pieces(context, logits.rows, sequence_length,
             [&](std::int64_t sequence, std::int64_t begin, std::int64_t end, int thread) {
               const auto sum = row_of(sums, thread, num_experts);
               std::ranges::fill(sum, 0.0);
               const std::int64_t token =
                   add_probabilities(logits, affinity, begin, end,
                                     row_of(terms, thread, num_experts).data(), sum.data());
               if (token >= 0) return bad.note(token);
               const auto assigned = counts.subspan(static_cast<std::size_t>(thread * num_experts),
                                                    static_cast<std::size_t>(num_experts));
               count_assignments(routing, begin, end, assigned);
               losses[static_cast<std::size_t>(sequence)] = balance(sum, assigned, end - begin);
             });
  bad.throw_if_any(input_of(logits));
  return coefficient * std::accumulate(losses.begin(), losses.end(), 0.0) /
         static_cast<double>(losses.size());
}

void update_bias(std::span<float> bias, std::span<const std::int64_t> assignments_of_expert,
                 float rate) {
  require(bias.size() == assignments_of_expert.size(),
          "assignments_of_expert has {} elements: expected {} as bias",
          assignments_of_expert.size(), bias.size());
  require(std::isfinite(rate), "rate is {}: expected a finite number", rate);
  double sum = 0;  // exact below 2^53
  for (std::size_t e = 0; e < bias.size(); ++e) {
    require(assignments_of_expert[e] >= 0, "assignments_of_expert[{}] is {}: expected 0 or more", e,
            assignments_of_expert[e]);
    sum += static_cast<double>(assignments_of_expert[e]);
  }
  for (std::size_t e = 0; e < bias.size(); ++e) {
    const double scaled =
        static_cast<double>(assignments_of_expert[e]) * static_cast<double>(bias.size());
    bias[e] += scaled < sum ? rate : scaled > sum ? -rate : 0.0f;
  }
}

}  // namespace switchyard
