#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/cell.h"

namespace switchyard {

/// The largest T taken: beyond any model, and small enough that no product with it overflows before
/// the memory check has seen it.
inline constexpr std::int64_t kMaxTokens = std::int64_t{1} << 30;

/// A sweep: an axis left empty has the one value of `base`.
struct Grid {
  Cell base;
  std::vector<std::string> config;  ///< each sets E, H, F, K where these have no axis
  std::vector<std::int64_t> hidden, ffn, experts, top_k;
  std::vector<DType> dtype;
  std::vector<WeightFormat> weights;  ///< empty: as dtype
  std::vector<std::int64_t> threads;
  std::vector<std::string> strategy;
  std::vector<RouterArch> router;
  std::vector<std::string> routing;
  std::vector<Layout> layout;
  std::vector<double> capacity_factor;
  std::vector<std::int64_t> tokens;
  /// In the place of tokens, which are their product. One of the two alone has 128 tokens to a
  /// sequence, or one sequence.
  std::vector<std::int64_t> seq_len, batch_size;
  std::vector<std::string> impl;  ///< empty: the target's default
};

/// The cartesian product, in the order of Grid's axes, the last one fastest, as groups of cells
/// that differ in impl only. Throws Error(invalid_argument) for an unknown target, implementation,
/// strategy or configuration, for top_k > experts, for tokens given twice, and for more
/// than a million cells.
std::vector<std::vector<Cell>> expand(const Grid& grid);

}  // namespace switchyard
