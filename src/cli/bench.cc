// switchyard bench TARGET: what to measure, how, and where the records go.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <map>
#include <set>

#include "base/check.h"
#include "bench/axis.h"
#include "bench/draws.h"
#include "cli/output.h"
#include "cli/sweep.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "cli/workload_options.h"
#include "report/draw.h"
#include "report/plot.h"

namespace switchyard::cli {
namespace {

struct BenchOptions {
  Workload workload;
  RunOptions run;
  RecordFormat format = RecordFormat::table;
  std::optional<std::string> out;
  std::optional<std::string> csv_out;
  std::optional<std::string> plot_out;
  std::optional<double> peak_bw;  ///< bytes/s
  bool resume = false;
  bool dry_run = false;
  bool list = false;
};

double single_number(const std::string& option, const std::string& text, double least,
                     double most) {
  const auto values = number_axis(option, text, least, most);
  require(values.size() == 1, "{} '{}': expected one number", option, text);
  return values[0];
}

int single_integer(const std::string& option, const std::string& text, int least, int most) {
  const auto values = integer_axis(option, text, least, most);
  require(values.size() == 1, "{} '{}': expected one number", option, text);
  return static_cast<int>(values[0]);
}

std::string csv_path(const std::string& path) {
  require(record_format_of_path(path) == RecordFormat::csv,
          "--csv-out '{}': expected a name that ends in .csv", path);
  return path;
}

bool is_cold(const std::string& name) {
  constexpr std::string_view kNames[] = {"cold", "warm"};
  require(name == kNames[0] || name == kNames[1], "{}", unknown_name("cache", name, kNames));
  return name == kNames[0];
}

OptionGroup measurement_options(BenchOptions& o) {
  constexpr int kMaxIterations = 1'000'000'000;
  constexpr double kMaxSeconds = 1e6;
  return {"Measurement",
          {
              {{"--impl"},
               "NAME,...",
               "implementations to compare, sample by sample in turn; --list has them",
               [&o](const std::string& text) { o.workload.grid.impl = name_axis("--impl", text); }},
              {{"--warmup"},
               "N",
               "iterations before the first sample (until times settle)",
               [&o](const std::string& text) {
                 o.run.warmup = single_integer("--warmup", text, 0, kMaxIterations);
               }},
              {{"--iters"},
               "N",
               "samples (until --min-time is over and the median is known to 2%)",
               [&o](const std::string& text) {
                 o.run.iters = single_integer("--iters", text, 1, kMaxIterations);
               }},
              {{"--min-time"},
               "SECONDS",
               fmt::format("of samples, per cell ({})", o.run.min_time_s),
               [&o](const std::string& text) {
                 o.run.min_time_s = single_number("--min-time", text, 0, kMaxSeconds);
               }},
              {{"--timeout"},
               "SECONDS",
               fmt::format("most time for the samples of a cell ({})", o.run.max_time_s),
               [&o](const std::string& text) {
                 o.run.max_time_s = single_number("--timeout", text, 1e-3, kMaxSeconds);
               }},
              {{"--peak-bw-gbs"},
               "X",
               "bandwidth in 1e9 bytes/s that limits are computed with (measured on this machine)",
               [&o](const std::string& text) {
                 o.peak_bw = 1e9 * single_number("--peak-bw-gbs", text, 1e-3, 1e9);
               }},
              {{"--cache"},
               "NAME",
               "before each sample the caches are cold (emptied) or warm (cold)",
               [&o](const std::string& text) { o.run.cold = is_cold(text); }},
          }};
}

OptionGroup output_options(BenchOptions& o) {
  return {"Output",
          {
              {{"-o", "--format"},
               "FORMAT",
               "of standard output: table, json, jsonl, csv, md (table)",
               [&o](const std::string& text) { o.format = record_format_from_name(text); }},
              {{"--out"},
               "FILE",
               "append the records to FILE, whose suffix says how: .jsonl, .json, .csv or .md",
               [&o](const std::string& text) { o.out = text; }},
              {{"--csv-out"},
               "FILE.csv",
               "append them to a CSV file too",
               [&o](const std::string& text) { o.csv_out = csv_path(text); }},
              {{"--plot-out"},
               "FILE",
               "draw the records to a .png or .svg, as suits the target; `switchyard plot` has all "
               "kinds",
               [&o](const std::string& text) {
                 image_format_of_path(text);
                 o.plot_out = text;
               }},
              {{"--resume"},
               "",
               "skip cells that --out already holds with \"ok\":true",
               [&o](const std::string&) { o.resume = true; }},
              {{"--dry-run"},
               "",
               "print memory and FLOPs of each cell, measure nothing",
               [&o](const std::string&) { o.dry_run = true; }},
              {{"--list"},
               "",
               "print the targets and their implementations",
               [&o](const std::string&) { o.list = true; }},
          }};
}

CommandLine command_line(BenchOptions& o) {
  CommandLine line{
      .verb = "bench",
      .summary =
          "Measures a part of the layer: each output is checked against a double-precision "
          "reference, each time stands beside what this machine would allow. Every option "
          "that takes a list (N,...) also takes a range, 64:4096:*2 or 8:64:+8; several "
          "lists give all combinations. With TARGET one of: ",
      .examples = {"bench layer --config olmoe --tokens 1,64,1024 --impl loop,padded,grouped",
                   "bench router --tokens 64:4096:*4 --strategy topk_softmax,sigmoid_bias",
                   "bench pack --config mixtral --routing zipf:1.2 --out pack.jsonl --resume",
                   "bench experts --config qwen3-30b --dtype bf16 --dry-run"},
      .positionals = {{"TARGET", "what to measure", false,
                       [&o](const std::string& text) { o.workload.grid.base.bench = text; }}},
      .groups = workload_options(o.workload),
  };
  std::vector<std::string_view> names;
  for (const Target& target : targets()) names.push_back(target.name);
  line.summary += fmt::format("{}.", fmt::join(names, ", "));
  line.groups.push_back(measurement_options(o));
  line.groups.push_back(output_options(o));
  return line;
}

void print_targets() {
  std::vector<std::vector<std::string>> rows = {{"target", "implementations", "measures"}};
  for (const Target& target : targets()) {
    rows.push_back({std::string(target.name),
                    fmt::format("{}", fmt::join(target.implementations, ",")),
                    std::string(target.summary)});
  }
  print(aligned(rows, "lll"));
}

/// Reads every routing source once, so that a bad one is refused before anything is measured, and
/// says what a trace does to fill the shapes asked for.
void check_sources(const Sweep& sweep) {
  std::map<std::string, RoutingSource> sources;
  std::set<std::string> said;
  for (const auto& group : sweep.groups) {
    const Cell& cell = group.front();
    auto found = sources.find(cell.routing);
    if (found == sources.end()) {
      found = sources.emplace(cell.routing, RoutingSource::parse(cell.routing)).first;
    }
    for (const std::string& note : found->second.notes(shape_of(cell))) {
      const std::string line = fmt::format("{}, T={}: {}", cell.routing, cell.tokens, note);
      if (said.insert(line).second) message(line);
    }
  }
}

/// Returns the records that the file already holds.
std::vector<Record> resume(Sweep& sweep) {
  if (!std::filesystem::exists(*sweep.out)) return {};
  std::int64_t num_torn = 0;
  auto records = read_records(*sweep.out, &num_torn);
  const std::size_t skipped = skip_done(sweep, records);
  message(
      fmt::format("{}: {} of its records are of cells asked for and ok{}", *sweep.out, skipped,
                  num_torn > 0 ? fmt::format("; {} torn rows are measured again", num_torn) : ""));
  return records;
}

PlotKind plot_kind_of_target(std::string_view target) {
  if (target == "perm" || target == "pack" || target == "combine" || target == "dispatch") {
    return PlotKind::perm;
  }
  if (target == "capacity") return PlotKind::drop;
  if (target == "router" || target == "layer") return PlotKind::latency;
  return PlotKind::throughput;
}

/// A picture that cannot be drawn costs no measurement: they are in their files by now.
Status draw_records(std::string_view target, std::span<const Record> records,
                    const std::string& path) {
  try {
    plot(plot_kind_of_target(target), records, {}, path);
    return kDone;
  } catch (const Error& error) {
    message(fmt::format("switchyard: --plot-out {}: {}", path, error.what()));
    return status_of(error.code());
  }
}

}  // namespace

Status run_bench(std::span<const std::string> args, const std::string& command) {
  BenchOptions options;
  const CommandLine line = command_line(options);
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  if (options.list) {
    print_targets();
    return kDone;
  }
  const std::string& bench = options.workload.grid.base.bench;
  require(!bench.empty(), "bench needs a target: {}", line.examples[0]);
  std::vector<std::string> files;
  for (const auto& file : {options.out, options.csv_out}) {
    if (file) files.push_back(*file);
  }
  require(files.size() < 2 || files[0] != files[1],
          "--out and --csv-out are both '{}': expected two files", files[0]);
  require(!options.resume || !files.empty(), "--resume needs --out FILE, whose cells it skips");

  Sweep sweep{&find_target(bench),
              cells_of(options.workload),
              options.run,
              command,
              files.empty() ? std::nullopt : std::optional(files[0]),
              options.peak_bw};
  check_sources(sweep);
  if (options.dry_run) {
    RecordOutput output(options.format, {});
    dry_run(sweep, output);
    return kDone;
  }
  if (options.plot_out) require_gnuplot();
  std::vector<Record> records;
  if (options.resume) records = resume(sweep);
  RecordOutput output(options.format, files);
  const Status status = run_sweep(sweep, output);
  if (!options.plot_out) return status;
  std::erase_if(records, [&](const Record& record) { return record.value("bench", "") != bench; });
  records.insert(records.end(), output.records().begin(), output.records().end());
  const Status drawn = draw_records(bench, records, *options.plot_out);
  return status != kDone ? status : drawn;
}

}  // namespace switchyard::cli
