// switchyard bench TARGET: what to measure, how, and where the records go.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <map>
#include <set>

#include "base/check.h"
#include "bench/draws.h"
#include "cli/bench_options.h"
#include "cli/output.h"
#include "cli/suite.h"
#include "cli/sweep.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "cli/write_report.h"
#include "cuda/gpu.h"
#include "report/draw.h"
#include "report/plot.h"

namespace switchyard::cli {
namespace {

void print_targets() {
  std::vector<std::vector<std::string>> rows = {
      {"target", "implementations", "on device cuda", "measures"}};
  for (const Target& target : targets()) {
    const auto& on_device = target.device_implementations;
    rows.push_back({std::string(target.name),
                    fmt::format("{}", fmt::join(target.implementations, ",")),
                    on_device.empty() ? "-" : fmt::format("{}", fmt::join(on_device, ",")),
                    std::string(target.summary)});
  }
  print(aligned(rows, "llll"));
}

/// Reads every routing source once, so that a bad one is refused before anything is measured, and
/// says what a trace does to fill the shapes asked for.
void check_sources(const Sweep& sweep) {
  std::map<std::string, RoutingSource> sources;
  std::set<std::string> said;
  for_each_cell(sweep, [&](const SweepPart&, const Cell& cell) {
    auto found = sources.find(cell.routing);
    if (found == sources.end()) {
      found = sources.emplace(cell.routing, RoutingSource::parse(cell.routing)).first;
    }
    for (const std::string& note : found->second.notes(shape_of(cell))) {
      const std::string line = fmt::format("{}, T={}: {}", cell.routing, cell.tokens, note);
      if (said.insert(line).second) message(line);
    }
  });
}

/// Throws Error(unavailable) that says what a cell's device is missing.
void require_devices(const Sweep& sweep) {
  bool on_device = false;
  for_each_cell(sweep, [&](const SweepPart&, const Cell& cell) {
    on_device = on_device || cell.device == Device::cuda;
  });
  if (on_device) cuda::open_gpu();
}

SweepPart part_of(const BenchOptions& options) {
  const std::string& bench = options.workload.grid.base.bench;
  require(!bench.empty(), "bench needs a target: bench layer --config olmoe --tokens 1,64");
  return {&find_target(bench), cells_of(options.workload), options.run, options.peak_bw};
}

/// A line of a suite with `args`, the command's own, on top of it.
SweepPart part_of(const SuiteLine& suite_line, std::span<const std::string> args) {
  BenchOptions options;
  const CommandLine line = bench_command_line(options);
  try {
    for (const OptionGroup& group : sweep_options(options)) {
      for (const std::string& given : options_in(line, suite_line.words)) {
        for (const Option& option : group.options) {
          require(option.names[0] != given, "{} belongs on the command line, not in a suite",
                  given);
        }
      }
    }
    parse(line, overridden(line, suite_line.words, args));
    return part_of(options);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", suite_line.place, error.what()));
  }
}

Sweep sweep_of(const BenchOptions& options, std::span<const std::string> args) {
  Sweep sweep;
  if (!options.suite) {
    sweep.parts.push_back(part_of(options));
  } else {
    require(options.workload.grid.base.bench.empty(),
            "'{}' beside --suite: the suite's lines name their targets",
            options.workload.grid.base.bench);
    for (const SuiteLine& line : read_suite(suite_path(*options.suite))) {
      sweep.parts.push_back(part_of(line, args));
    }
  }
  if (const std::size_t repeated = drop_repeated(sweep); repeated > 0) {
    message(fmt::format("{} cells are asked for more than once and measured once", repeated));
  }
  if (options.filter) keep_matching(sweep, *options.filter);
  return sweep;
}

/// The files of records; the first is the one to resume from.
std::vector<std::string> files_of(const BenchOptions& options) {
  std::vector<std::string> files;
  for (const auto& file : {options.out, options.csv_out}) {
    if (file) files.push_back(*file);
  }
  if (files.size() == 2) {
    require(files[0] != files[1], "--out and --csv-out are both '{}': expected two files",
            files[0]);
  }
  return files;
}

/// What a resumed sweep's file holds.
struct Resumed {
  std::vector<Record> records;
  Status status = kDone;  ///< what the failed cells that it spares tell the shell
};

Resumed resume(Sweep& sweep, bool retry_failed) {
  std::error_code missing;
  if (std::filesystem::file_size(*sweep.out, missing) == 0 || missing) return {};
  std::int64_t num_torn = 0;
  auto records = read_records(*sweep.out, &num_torn);
  const Skipped skipped = skip_done(sweep, records, retry_failed);
  std::string line = fmt::format("{}: {} cells are there and ok", *sweep.out, skipped.num_ok);
  if (skipped.num_failed > 0) {
    line += fmt::format(", {} failed (--retry-failed measures them again)", skipped.num_failed);
  }
  if (num_torn > 0) line += fmt::format(", {} torn rows do not count", num_torn);
  message(line);
  return {std::move(records), skipped.status};
}

/// The target that --plot-out draws.
std::string_view plotted_target(const Sweep& sweep) {
  const Target& target = *sweep.parts[0].target;
  for (const SweepPart& part : sweep.parts) {
    require(part.target == &target,
            "--plot-out draws one target, the suite has {} and {}: draw its records with "
            "`switchyard plot`",
            target.name, part.target->name);
  }
  return target.name;
}

PlotKind plot_kind_of_target(std::string_view target) {
  if (target == "perm" || target == "pack" || target == "combine" || target == "dispatch") {
    return PlotKind::perm;
  }
  if (target == "capacity") return PlotKind::drop;
  if (target == "router" || target == "layer") return PlotKind::latency;
  return PlotKind::throughput;
}

/// What cannot be drawn costs no measurement: they are in their files by now.
template <class Draw>
Status attempt(std::string_view option, const std::string& path, Draw&& draw) {
  try {
    draw();
    return kDone;
  } catch (const Error& error) {
    message(fmt::format("switchyard: {} {}: {}", option, path, error.what()));
    return status_of(error.code());
  }
}

/// --plot-out, of one target, and --report-out, of all records.
Status show_records(const BenchOptions& options, std::string_view plotted,
                    const std::vector<Record>& records, const std::string& command) {
  Status status = kDone;
  if (options.report_out) {
    status = attempt("--report-out", *options.report_out,
                     [&] { write_report(*options.report_out, records, command); });
  }
  if (!options.plot_out) return status;
  std::vector<Record> of_target = records;
  std::erase_if(of_target, [&](const Record& r) { return r.value("bench", "") != plotted; });
  return graver(status, attempt("--plot-out", *options.plot_out, [&] {
                  plot(plot_kind_of_target(plotted), of_target, {}, *options.plot_out);
                }));
}

}  // namespace

Status run_bench(std::span<const std::string> args, const std::string& command) {
  BenchOptions options;
  const CommandLine line = bench_command_line(options);
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  if (options.list && !options.suite && options.workload.grid.base.bench.empty()) {
    print_targets();
    return kDone;
  }
  const std::vector<std::string> files = files_of(options);
  require(!options.resume || !files.empty(), "--resume needs --out FILE, whose cells it skips");
  require(!options.retry_failed || options.resume, "--retry-failed goes with --resume");

  Sweep sweep = sweep_of(options, args);
  sweep.command = command;
  if (!files.empty()) sweep.out = files[0];
  check_sources(sweep);
  const bool measures = !options.list && !options.dry_run;
  if (measures) require_devices(sweep);
  // Opened first: its lock keeps two runs from resuming one sweep.
  std::optional<RecordOutput> output;
  if (!options.list) {
    output.emplace(options.format, measures ? files : std::vector<std::string>{});
  }
  Resumed before;
  if (options.resume) before = resume(sweep, options.retry_failed);
  if (options.list) {
    const std::vector<std::string> lines = cell_lines(sweep);
    if (!lines.empty()) print(fmt::format("{}\n", fmt::join(lines, "\n")));
    return kDone;
  }
  if (options.dry_run) {
    dry_run(sweep, *output);
    return kDone;
  }
  std::string_view plotted;
  if (options.plot_out) {
    plotted = plotted_target(sweep);
    require_gnuplot();
  }
  const Status status = graver(before.status, run_sweep(sweep, *output));
  if (!options.plot_out && !options.report_out) return status;
  std::vector<Record> records = std::move(before.records);
  records.insert(records.end(), output->records().begin(), output->records().end());
  const Status shown = show_records(options, plotted, records, command);
  return status != kDone ? status : shown;
}

}  // namespace switchyard::cli
