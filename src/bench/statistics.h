#pragma once

#include <cstdint>
#include <span>

#include "bench/record.h"

namespace switchyard {

/// Percentile p in [0, 100] of ascending samples, interpolated linearly between the two nearest of
/// positions p/100 * (n - 1): Hyndman and Fan's type 7, NumPy's default. Needs at least one sample.
double percentile(std::span<const double> ascending, double p) noexcept;

struct Interval {
  double low = 0;
  double high = 0;
};

/// 95% interval of the median from 1000 bootstrap resamples (percentile method, Efron 1979), drawn
/// with Philox: the same samples and seed give the same interval.
Interval bootstrap_median(std::span<const double> samples, std::uint64_t seed);

/// 95% interval of median(b) / median(a), of samples that are independent and positive: both are
/// resampled. The same samples and seed give the same interval.
Interval bootstrap_ratio(std::span<const double> a, std::span<const double> b, std::uint64_t seed);

/// 95% interval of the median from order statistics (binomial, normal approximation): as wide as
/// the bootstrap's and cheap enough to be asked after every sample. All of the range below 6
/// samples, where no pair of order statistics reaches 95%.
Interval order_median_interval(std::span<const double> ascending) noexcept;

/// Mann and Whitney's U test, two-sided: do `a` and `b` come from one distribution? Normal
/// approximation with correction for ties and continuity; it is good from about 8 samples each.
struct MannWhitney {
  double u = 0;  ///< pairs where a's sample is larger, ties count one half
  double p = 1;  ///< 1 when either is empty or all samples are equal
};

MannWhitney mann_whitney(std::span<const double> a, std::span<const double> b);

struct Summary {
  double median = 0, mean = 0, std = 0, min = 0, p05 = 0, p95 = 0, p99 = 0;
  Interval ci95;  ///< of the median
};

/// Throws Error(invalid_argument) when there are no samples or one is not finite.
Summary summarise(std::span<const double> samples, std::uint64_t seed);

/// Writes samples_ms and the fields that summarise them. Nothing when there are no samples.
void add_samples(Record& record, std::span<const double> samples_ms, std::uint64_t seed);

}  // namespace switchyard
