#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "bench/cell.h"
#include "bench/limits.h"
#include "bench/record.h"

namespace switchyard {

class WeightCache;

/// What a cell needs and does, known before anything is allocated.
struct CellCost {
  std::int64_t memory_bytes = 0;  ///< peak of inputs, weights (original and prepacked), scratch
  double flops = 0;               ///< of useful work, expected over the routing source
  std::int64_t bytes = 0;         ///< each touched byte once, expected
};

/// A bench target: a stage, or several in a row.
struct Target {
  std::string_view name;
  std::string_view summary;
  std::vector<std::string_view> implementations;         ///< the impl axis, default first
  std::vector<std::string_view> device_implementations;  ///< the same on a CUDA device, or none
  CellCost (*cost)(const Cell& cell);
  /// The fields that decide what a record of the cell is a measurement of.
  Record (*identity)(const Cell& cell, const RunOptions& options);
  /// Measures cells that differ in impl only, interleaved: same inputs, sample i of every
  /// implementation before sample i+1 of any. Each output is checked against the oracle before its
  /// first sample; a wrong one gives ok=false, an error and no time. A cell that throws is a record
  /// with ok=false. Returns one record per cell, in order. `stop` is polled between samples: when
  /// it turns true the records hold what was measured so far. `weights` serves every group of a
  /// sweep.
  std::vector<Record> (*run)(std::span<const Cell> cells, const RunOptions& options,
                             const Ceilings& ceilings, WeightCache& weights,
                             const std::function<bool()>& stop);
};

/// All targets, in the order of help.
std::span<const Target> targets();

/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
const Target& find_target(std::string_view name);

/// Throws Error(invalid_argument) for a target that does not run on `device`, naming those that do.
std::span<const std::string_view> implementations_of(const Target& target, Device device);

/// Throws Error(invalid_argument) that lists the target's implementations and suggests the nearest.
void require_implementation(const Target& target, Device device, std::string_view name);

}  // namespace switchyard
