#pragma once

#include <span>

#include "bench/measure.h"
#include "bench/memory.h"

namespace switchyard {

/// Memory for cells of one routing source, asked before anything is allocated.
class Budget {
 public:
  /// `held`: bytes that the cells will use, or that are let go of before they take more.
  Budget(const Measurement& measurement, const RoutingSource& source, const RunOptions& options,
         std::int64_t held);

  /// Whether a group of cells fits, all implementations at once.
  bool has_room(std::span<const Cell> cells) const;

  /// Bytes that are left beside a group of cells.
  std::int64_t room_beside(std::span<const Cell> cells) const;

  /// Throws Error(out_of_memory) with need, have and what would fit.
  void require_room(std::span<const Cell> cells) const;

 private:
  double need(std::span<const Cell> cells) const;
  std::string what_fits(Cell cell) const;

  const Measurement& measurement_;
  const RoutingSource& source_;
  double flush_bytes_;  ///< of the buffer that empties the caches
  AvailableMemory have_;
};

}  // namespace switchyard
