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
///   panel   P = rows * depth elements fill 5/8 of L2; the rest is for this stripe, the next one
///           and the accumulators (tiles: 352 rows of 2048 are as fast as 256, 384 are slower); at
///           most 512 rows, of bytes 640 (T = 4096 of olmoe, 512 rows an expert and a few more, 2%)
/// Vector kernels are slow enough that 96 rows hide the reading of weights, a byte a cycle; then
///   depth   K or equal parts of at most P / 96
/// For tiles
///   cost    what each element of the product moves from beyond L2:
///           whole depth    size / rows              weights pass once a block of rows
///           parts of it    size / rows + 16 / part  and partial sums of f32 are read and written
///                                                   once a part, with nothing to prefetch them
///   depth   K or equal parts of at most 2 sqrt(P), which balances the two terms, in units of 512
///           (the chunks of the kernel): what is cheaper
Blocking choose_blocking(const Kernel& kernel, std::int64_t depth, const CacheSizes& caches);
/// The same for panels of elements of `panel_size` bytes.
Blocking choose_blocking(std::int64_t panel_size, std::int64_t depth, const CacheSizes& caches);

}  // namespace switchyard::gemm
