#pragma once

#include <cstdint>

#include "base/check.h"

namespace switchyard {

/// `require` whose sentence, which prints layouts, is made only when it is needed.
template <class Sentence>
void require_that(bool holds, const Sentence& sentence) {
  if (!holds) [[unlikely]] {
    throw Error(ErrorCode::invalid_argument, sentence());
  }
}

/// Arithmetic of sizes and strides. `what` names the result: "the size of (4,3)".
template <class What>
std::int64_t checked_product(std::int64_t a, std::int64_t b, const What& what) {
  std::int64_t result;
  require(!__builtin_mul_overflow(a, b, &result), "{} does not fit 63 bits: {} * {}", what(), a, b);
  return result;
}

template <class What>
std::int64_t checked_sum(std::int64_t a, std::int64_t b, const What& what) {
  std::int64_t result;
  require(!__builtin_add_overflow(a, b, &result), "{} does not fit 63 bits: {} + {}", what(), a, b);
  return result;
}

/// a / b for a >= 0, b > 0, rounded up.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept {
  return a / b + (a % b != 0);
}

}  // namespace switchyard
