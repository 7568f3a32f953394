#pragma once

#include <cstdint>
#include <functional>

#include "bench/limits.h"

namespace switchyard {

/// How much work a measurement does; the defaults are what ceilings are measured with.
struct MeasureEffort {
  std::int64_t buffer_bytes = 0;  ///< 0: what a cache flush reads, or less when memory is short
  int repeats = 3;                ///< the best counts: other programs only ever slow one down
  double peak_run_s = 0.003;      ///< of one run of a matrix peak; short, to fit between others
};

Ceilings measure_ceilings(Context& context, const MeasureEffort& effort);

/// ceilings_for with another way to measure.
Ceilings cached_ceilings(Context& context, bool again,
                         const std::function<Ceilings(Context&)>& measure);

}  // namespace switchyard
