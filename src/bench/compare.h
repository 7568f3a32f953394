#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/record.h"
#include "bench/statistics.h"

namespace switchyard {

/// What can be said of the ratio r = median(B) / median(A), with t the threshold:
///   same     the 95% interval of r lies within [1 / (1 + t), 1 + t]
///   slower   it lies above 1 + t, and Mann and Whitney's p < 0.05
///   faster   it lies below 1 / (1 + t), and p < 0.05
///   unclear  anything else, and whatever has fewer than 6 samples on a side
enum class Verdict { faster, same, unclear, slower };

std::string_view name_of(Verdict verdict) noexcept;

/// The rule above, for at least 6 samples on each side.
Verdict verdict_of(const Interval& ratio, double p, double threshold) noexcept;

/// A cell that both have measured.
struct ComparedCell {
  Record identity;                    ///< B's
  std::size_t num_a = 0, num_b = 0;   ///< samples
  double median_a = 0, median_b = 0;  ///< ms
  double ratio = 0;                   ///< median_b / median_a
  Interval interval;                  ///< 95%, of the ratio
  double p = 1;                       ///< Mann and Whitney, two-sided
  Verdict verdict = Verdict::unclear;
};

/// A cell that has no time on a side.
struct FailedCell {
  Record identity;
  std::string error_a, error_b;  ///< empty: ok there, or not there at all
  bool is_regression = false;    ///< ok in A, failed in B
};

/// A field of the environment whose values differ; "" where a record lacks it.
struct Difference {
  std::string field;
  std::vector<std::string> a, b;  ///< the values met, ascending
};

struct Comparison {
  std::vector<Difference> environment;
  std::vector<ComparedCell> cells;  ///< in B's order
  std::vector<FailedCell> failed;
  std::vector<Record> only_a, only_b;      ///< identities
  std::size_t pooled_a = 0, pooled_b = 0;  ///< cells with several records, whose samples are pooled
};

/// Compares two sets of records cell by cell. Cells are matched by their identity without `config`,
/// which is a name, without the fields of `across`, and without `threads` where each side has one
/// number of threads throughout and they differ: what is left out is told as a difference.
/// Throws Error(invalid_argument) when `across` names no identity field or makes one cell of
/// several of A's.
Comparison compare(std::span<const Record> a, std::span<const Record> b, double threshold,
                   std::span<const std::string> across = {});

/// True when a cell is slower, or was ok in A and failed in B.
bool has_regression(const Comparison& comparison) noexcept;

}  // namespace switchyard
