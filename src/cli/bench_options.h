#pragma once

#include <optional>
#include <string>

#include "bench/cell.h"
#include "bench/sinks.h"
#include "cli/command_line.h"
#include "cli/workload_options.h"

namespace switchyard::cli {

/// Everything that `switchyard bench` can be told.
struct BenchOptions {
  Workload workload;
  RunOptions run;
  RecordFormat format = RecordFormat::table;
  std::optional<std::string> out;
  std::optional<std::string> csv_out;
  std::optional<std::string> plot_out, report_out;
  std::optional<double> peak_bw;  ///< bytes/s
  std::optional<std::string> suite;
  std::optional<std::string> filter;
  bool resume = false;
  bool retry_failed = false;
  bool dry_run = false;
  bool list = false;
};

/// The options that fill it.
CommandLine bench_command_line(BenchOptions& options);

/// Those of them that say what becomes of a sweep as a whole, not what a line of a suite measures.
std::vector<OptionGroup> sweep_options(BenchOptions& options);

}  // namespace switchyard::cli
