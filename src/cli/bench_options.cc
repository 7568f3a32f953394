#include "cli/bench_options.h"
#include "cli/write_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "bench/axis.h"
#include "bench/target.h"
#include "report/draw.h"

namespace switchyard::cli {
namespace {

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

OptionGroup selection_options(BenchOptions& o) {
  return {"Sweep",
          {
              {{"--suite"},
               "NAME",
               "measure the lines of a file, each what would follow `switchyard bench`: a path, or "
               "the name of one of bench/suites; options given beside it win over the lines'",
               [&o](const std::string& text) { o.suite = text; }},
              {{"--filter"},
               "REGEX",
               "only cells in whose line, as --list prints it, this is found",
               [&o](const std::string& text) { o.filter = text; }},
              {{"--resume"},
               "",
               "skip cells that --out already holds",
               [&o](const std::string&) { o.resume = true; }},
              {{"--retry-failed"},
               "",
               "with --resume: measure those again that failed",
               [&o](const std::string&) { o.retry_failed = true; }},
              {{"--list"},
               "",
               "print each cell's line, measure nothing; without TARGET: the targets and their "
               "implementations",
               [&o](const std::string&) { o.list = true; }},
              {{"--dry-run"},
               "",
               "print memory and FLOPs of each cell, measure nothing",
               [&o](const std::string&) { o.dry_run = true; }},
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
              {{"--report-out"},
               "FILE.html",
               "write the page that `switchyard report` makes of the records",
               [&o](const std::string& text) { o.report_out = report_path(text, "--report-out"); }},
          }};
}

}  // namespace

std::vector<OptionGroup> sweep_options(BenchOptions& o) {
  return {selection_options(o), output_options(o)};
}

CommandLine bench_command_line(BenchOptions& o) {
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
                   "bench --suite quick --out quick.jsonl --filter 'impl=(sort|counting) '",
                   "bench experts --config qwen3-30b --dtype bf16 --dry-run"},
      .positionals = {{"TARGET", "what to measure", false,
                       [&o](const std::string& text) { o.workload.grid.base.bench = text; }}},
      .groups = workload_options(o.workload),
  };
  std::vector<std::string_view> names;
  for (const Target& target : targets()) names.push_back(target.name);
  line.summary += fmt::format("{}.", fmt::join(names, ", "));
  line.groups.push_back(measurement_options(o));
  for (OptionGroup& group : sweep_options(o)) line.groups.push_back(std::move(group));
  return line;
}
}  // namespace switchyard::cli
