#pragma once

#include <cstdint>
#include <string>

#include "base/cpu.h"
#include "gemm/kernel.h"

namespace switchyard::gemm {

/// How a product is cut for the caches.
struct Blocking {
  std::int64_t rows;   ///< of a panel: panel and accumulators share L2 with the passing weights
  std::int64_t depth;  ///< of a panel: all of K, or a part whose partial sums wait in memory

  std::string to_string() const;
};

/// The model, for a product of depth K (padded) with panels of `kernel`:
///   panel   rows * depth * size(panel) <= L2 / 2
///   depth   K when 256 rows of it fit that, else K cut evenly into parts no deeper than
///           2 sqrt(L2 / 2 / size(panel)): partial sums cost 8 bytes a row and part, weights
///           `size` bytes a depth, and this split minimises their sum
Blocking choose_blocking(const Kernel& kernel, std::int64_t depth, const CacheSizes& caches);
/// The same for panels of elements of `panel_size` bytes.
Blocking choose_blocking(std::int64_t panel_size, std::int64_t depth, const CacheSizes& caches);

}  // namespace switchyard::gemm
