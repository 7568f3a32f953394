// switchyard report FILES -o report.html: one page about records.

#include "report/report.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/replace_file.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/record_input.h"
#include "cli/verbs.h"
#include "cli/write_report.h"
#include "report/draw.h"

namespace switchyard::cli {
namespace {

bool can_draw() {
  try {
    require_gnuplot();
    return true;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unavailable) throw;
    message(fmt::format("{}; the report has no pictures", error.what()));
    return false;
  }
}

}  // namespace

std::string report_path(const std::string& path, std::string_view option) {
  require(path.ends_with(".html") || path.ends_with(".htm"),
          "{} '{}': expected a name that ends in .html", option, path);
  return path;
}

void write_report(const std::string& path, std::span<const Record> records,
                  const std::string& command) {
  replace_file(path, report_of(records, {.command = command, .pictures = can_draw()}));
}

Status run_report(std::span<const std::string> args, const std::string& command) {
  std::vector<std::string> files;
  std::string out;
  std::vector<Match> conditions;
  const CommandLine line{
      .verb = "report",
      .summary =
          "Writes one HTML page that needs no network: what the records say in plain words, where "
          "they were measured, tables that sort, pictures, and every record.",
      .examples = {"report layer.jsonl -o report.html",
                   "report before.jsonl after.jsonl --where bench=layer -o report.html"},
      .positionals = {{"FILE", "records: .json, .jsonl or .csv", true,
                       [&](const std::string& text) { files.push_back(text); }, true}},
      .groups = {{"Options",
                  {{{"-o", "--out"},
                    "FILE.html",
                    "where to",
                    [&](const std::string& text) { out = text; }},
                   {{"--where"},
                    "FIELD=VALUE,...",
                    "only records with this value; several values of one field: any of them",
                    [&](const std::string& text) { conditions = parse_matches(text); }}}}},
  };
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  require(!out.empty(), "report needs -o FILE, a name that ends in .html");
  report_path(out, "-o");
  write_report(out, where(read_all_records(files), conditions), command);
  return kDone;
}

}  // namespace switchyard::cli
