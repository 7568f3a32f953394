#pragma once

#include <cstdint>
#include <span>

#include "switchyard/plan.h"
#include "switchyard/routing.h"

namespace switchyard {

/// How evenly experts are used. n_i: assignments kept by expert i; standard deviations are of the
/// population. All are 0 when nothing was assigned.
struct LoadStats {
  double cv = 0;             ///< std(n) / mean(n)
  double max_over_mean = 0;  ///< max n / mean n
  double max_vio = 0;        ///< max_over_mean - 1 (Wang et al. 2024, arXiv 2408.15664)
  double entropy = 0;        ///< -sum p ln p / ln E, p = n / sum n; 1 when E = 1
  int experts_active = 0;    ///< #{n_i > 0}
};

LoadStats load_stats(std::span<const std::int64_t> rows_of_expert);

struct DropStats {
  double drop_rate = 0;        ///< dropped assignments / all
  double token_drop_rate = 0;  ///< tokens with assignments, all of them dropped / T
  std::int64_t padding_rows = 0;
};

DropStats drop_stats(const DispatchPlan& plan);

/// Mean over tokens of -sum w ln w over a token's weights.
double gate_entropy(const Routing& routing);

}  // namespace switchyard
