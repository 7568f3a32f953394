#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/target.h"
#include "cli/record_output.h"
#include "cli/status.h"

namespace switchyard::cli {

/// Cells of one target, measured alike.
struct SweepPart {
  const Target* target = nullptr;
  std::vector<std::vector<Cell>> groups;  ///< the cells of a group differ in impl only
  RunOptions run;
  std::optional<double> peak_bw;  ///< bytes/s, in the place of the measured bandwidths
};

/// Everything that one command measures.
struct Sweep {
  std::vector<SweepPart> parts;
  std::string command;             ///< as typed, for records and the hint how to resume
  std::optional<std::string> out;  ///< the file of records
};

/// Calls use(part, cell) for every cell, in the order of measuring.
template <class Use>
void for_each_cell(const Sweep& sweep, Use&& use) {
  for (const SweepPart& part : sweep.parts) {
    for (const auto& group : part.groups) {
      for (const Cell& cell : group) use(part, cell);
    }
  }
}

/// Each cell's line (bench/identity.h), in the order of measuring.
std::vector<std::string> cell_lines(const Sweep& sweep);

/// Leaves out the cells that are there already, each named by the same line as an earlier one.
/// Returns how many those are.
std::size_t drop_repeated(Sweep& sweep);

/// Leaves only cells in whose line the regular expression (ECMAScript) is found.
/// Throws Error(invalid_argument) when it is no regular expression or is found in none.
void keep_matching(Sweep& sweep, const std::string& regex);

/// What a file of records spares a sweep.
struct Skipped {
  std::size_t num_ok = 0;
  std::size_t num_failed = 0;
  Status status = kDone;  ///< what the failed ones tell the shell
};

/// Leaves out the cells that `records` hold, those that failed only unless `retry_failed`.
Skipped skip_done(Sweep& sweep, std::span<const Record> records, bool retry_failed);

/// The graver of two, in the order that status.h promises.
Status graver(Status a, Status b);

/// Measures group by group until done, interrupted or the file has failed. Failing cells are
/// records too.
Status run_sweep(const Sweep& sweep, RecordOutput& output);

/// Memory and work of each cell, nothing measured.
void dry_run(const Sweep& sweep, RecordOutput& output);

}  // namespace switchyard::cli
