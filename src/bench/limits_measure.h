#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "bench/limits.h"

namespace switchyard {

/// How much work a measurement does; the defaults are what ceilings are measured with.
struct MeasureEffort {
  std::int64_t buffer_bytes = 0;  ///< 0: what a cache flush reads, or less when memory is short
  int repeats = 3;                ///< the best counts: other programs only ever slow one down
  double peak_run_s = 0.003;      ///< of one run of a matrix peak; short, to fit between others
};

Ceilings measure_ceilings(Context& context, const MeasureEffort& effort);

/// Of runs between the rounds of a measurement, how many rounds each is nearest to. Rounds are
/// short where a machine is fast, so that most samples are of its fast seconds, where runs come by
/// the clock: for their medians to compare, a run counts for its rounds.
class NearestRounds {
 public:
  void pass_round() noexcept {
    if (!half_rounds_.empty()) ++since_;
  }
  void add_run();
  /// What runs found, in order, each once for every half round; all alike before the first round.
  std::vector<double> counted(std::span<const double> found) const;

 private:
  std::vector<std::size_t> half_rounds_;  ///< by run
  std::size_t since_ = 0;                 ///< rounds since the last run
};

/// Measures the ceilings between the samples of a measurement, as one more implementation: machines
/// that are shared get faster and slower by the minute, and only times of one minute compare.
class CeilingProbe {
 public:
  /// `data` is large enough that what was read of it first has left the caches at its end. It is
  /// written to.
  CeilingProbe(Context& context, std::byte* data, std::int64_t bytes);
  ~CeilingProbe();

  /// Before the first round and after each. One short run of each ceiling, unless the last was less
  /// than a quarter of a second ago.
  void operator()();

  /// `kept` with the medians of the runs, counted by NearestRounds, in the place of what they
  /// measure; bandwidths that are the user's word stay.
  Ceilings median_over(const Ceilings& kept) const;
  /// The same with the best of the runs.
  Ceilings best_over(const Ceilings& kept) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// ceilings_for with another way to measure.
Ceilings cached_ceilings(Context& context, bool again,
                         const std::function<Ceilings(Context&)>& measure);

}  // namespace switchyard
