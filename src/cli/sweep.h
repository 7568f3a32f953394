#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/target.h"
#include "cli/record_output.h"
#include "cli/status.h"

namespace switchyard::cli {

/// Groups of cells that differ in impl only, and how to measure them.
struct Sweep {
  const Target* target = nullptr;
  std::vector<std::vector<Cell>> groups;
  RunOptions run;
  std::string command;             ///< as typed, for records and the hint how to resume
  std::optional<std::string> out;  ///< the file of records
  std::optional<double> peak_bw;   ///< bytes/s, in the place of the measured bandwidths
};

/// Leaves out the cells that `records` already hold with ok = true. Returns how many those are.
std::size_t skip_done(Sweep& sweep, std::span<const Record> records);

/// Measures group by group until done, interrupted or the file has failed. Failing cells are
/// records too.
Status run_sweep(const Sweep& sweep, RecordOutput& output);

/// Memory and work of each cell, nothing measured.
void dry_run(const Sweep& sweep, RecordOutput& output);

}  // namespace switchyard::cli
