#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "switchyard/routing.h"

// What the files of the oracle share among themselves.

namespace switchyard::reference {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Token {
  std::int64_t position, id;
  std::vector<double> x;             // logits
  std::vector<double> bias;          // [E]
  std::vector<double> noise_logits;  // [E], or empty
};

struct Choice {
  std::vector<int> expert;
  std::vector<double> weight;
  bool close_call = false;
};

/// Columns by falling value, equal ones by rising column; the first k of them.
std::vector<int> sorted_columns(const std::vector<double>& value);
std::vector<int> top(const std::vector<double>& value, int k);

std::vector<double> picked(const std::vector<double>& value, const std::vector<int>& columns);

std::vector<double> softmax(const std::vector<double>& x, double temperature = 1);

/// Rules that look at all tokens.
std::vector<Choice> sinkhorn(const std::vector<Token>& tokens, const RouterParams& params);
std::vector<Choice> expert_choice(const std::vector<Token>& tokens, const RouterParams& params);
std::vector<Choice> base(const std::vector<Token>& tokens, const RouterParams& params);

/// Of sinkhorn's matrix, whose rows are then scaled to sum to 1/T: the largest error of a column's
/// sum, relative to 1/E.
double sinkhorn_column_error(const RouterInput& input, const RouterParams& params);

/// What the rules see of each token.
std::vector<Token> tokens_of(const RouterInput& input);

}  // namespace switchyard::reference
