// switchyard compare A B: what two files of records say about the same cells.

#include "bench/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>

#include "base/check.h"
#include "bench/axis.h"
#include "bench/identity.h"
#include "bench/sinks.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"

namespace switchyard::cli {
namespace {

struct CompareOptions {
  std::string a, b;
  double threshold = 0.05;
  std::vector<std::string> across;
  RecordFormat format = RecordFormat::table;
};

double percentage(const std::string& option, const std::string& text) {
  require(text.size() > 1 && text.ends_with('%'), "{} '{}': expected a percentage such as 5%",
          option, text);
  const auto values = number_axis(option, text.substr(0, text.size() - 1), 0, 1e4);
  require(values.size() == 1, "{} '{}': expected one percentage", option, text);
  return values[0] / 100;
}

CommandLine command_line(CompareOptions& o) {
  return {
      .verb = "compare",
      .summary =
          "Compares the records of B with those of A, cell by cell: the ratio of the "
          "medians with its 95% interval, and whether B is faster, slower, the same, or "
          "whether that is unclear. Differences of the environment come first. Exit status "
          "4 when a cell is slower, or was ok and now fails.",
      .examples = {"compare before.jsonl after.jsonl",
                   "compare before.jsonl after.jsonl --fail-above 10% -o md",
                   "compare loop.jsonl grouped.jsonl --across impl"},
      .positionals = {{"A", "records (.jsonl, .json, .csv) to compare with", true,
                       [&o](const std::string& text) { o.a = text; }},
                      {"B", "records to compare", true,
                       [&o](const std::string& text) { o.b = text; }}},
      .groups = {{"Options",
                  {
                      {{"--fail-above"},
                       "PERCENT",
                       "how much slower counts, and how much faster (5%)",
                       [&o](const std::string& text) {
                         o.threshold = percentage("--fail-above", text);
                       }},
                      {{"--across"},
                       "FIELD,...",
                       "compare cells that differ in these: impl, strategy, threads, ...",
                       [&o](const std::string& text) { o.across = name_axis("--across", text); }},
                      {{"-o", "--format"},
                       "FORMAT",
                       "table, json, jsonl, csv, md (table)",
                       [&o](const std::string& text) { o.format = record_format_from_name(text); }},
                  }}},
  };
}

std::string value_of(const Record& record, std::string_view field) {
  const auto found = record.find(field);
  if (found == record.end()) return "-";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// The identity fields whose values differ among the cells, and those that all share.
struct Split {
  std::vector<std::string_view> varying, shared;
};

Split split(const Comparison& comparison) {
  Split out;
  for (const RecordField& field : record_fields()) {
    if (!field.is_identity) continue;
    bool has = false, varies = false;
    for (const ComparedCell& cell : comparison.cells) {
      has = has || cell.identity.contains(field.name);
      varies = varies || value_of(cell.identity, field.name) !=
                             value_of(comparison.cells[0].identity, field.name);
    }
    const bool is_always_shown = field.name == "impl" || field.name == "tokens";
    if (varies || (has && is_always_shown)) {
      out.varying.push_back(field.name);
    } else if (has) {
      out.shared.push_back(field.name);
    }
  }
  return out;
}

std::string sides(const Difference& difference) {
  const auto text = [](const std::vector<std::string>& values) {
    std::vector<std::string> shown;
    for (const std::string& value : values) shown.push_back(value.empty() ? "-" : value);
    return fmt::format("{}", fmt::join(shown, ", "));
  };
  return fmt::format("{} -> {}", text(difference.a), text(difference.b));
}

std::string digits(double x) {
  const int before_point = x > 0 ? static_cast<int>(std::floor(std::log10(x))) + 1 : 1;
  return fmt::format("{:.{}f}", x, std::clamp(4 - before_point, 0, 9));
}

using Rows = std::vector<std::vector<std::string>>;

/// Titles, then a row per compared cell.
Rows rows_of(const Comparison& comparison, std::span<const std::string_view> fields) {
  Rows rows(1);
  for (const std::string_view field : fields) rows[0].emplace_back(field);
  for (const char* title : {"A ms", "B ms", "B/A", "95% interval", "p", "verdict"}) {
    rows[0].emplace_back(title);
  }
  for (const ComparedCell& cell : comparison.cells) {
    auto& row = rows.emplace_back();
    for (const std::string_view field : fields) row.push_back(value_of(cell.identity, field));
    row.push_back(digits(cell.median_a));
    row.push_back(digits(cell.median_b));
    row.push_back(fmt::format("{:.3f}", cell.ratio));
    row.push_back(fmt::format("{:.3f} to {:.3f}", cell.interval.low, cell.interval.high));
    row.push_back(fmt::format("{:.2g}", cell.p));
    row.emplace_back(name_of(cell.verdict));
  }
  return rows;
}

std::string tally(const Comparison& comparison, double threshold) {
  std::array<int, 4> counts = {};
  for (const ComparedCell& cell : comparison.cells) ++counts[static_cast<int>(cell.verdict)];
  const auto of = [&](Verdict verdict) { return counts[static_cast<int>(verdict)]; };
  return fmt::format("{} cells: {} slower, {} faster, {} same, {} unclear, at a threshold of {:g}%",
                     comparison.cells.size(), of(Verdict::slower), of(Verdict::faster),
                     of(Verdict::same), of(Verdict::unclear), 100 * threshold);
}

/// What has no ratio, as lines.
std::vector<std::string> remarks(const Comparison& comparison) {
  std::vector<std::string> lines;
  for (const FailedCell& cell : comparison.failed) {
    for (const auto& [side, error] : {std::pair{'A', cell.error_a}, std::pair{'B', cell.error_b}}) {
      if (error.empty()) continue;
      lines.push_back(fmt::format("failed in {}: {}: {}", side, cell_line(cell.identity), error));
    }
  }
  for (const Record& cell : comparison.only_a) lines.push_back("only in A: " + cell_line(cell));
  for (const Record& cell : comparison.only_b) lines.push_back("only in B: " + cell_line(cell));
  for (const auto& [side, count] :
       {std::pair{'A', comparison.pooled_a}, std::pair{'B', comparison.pooled_b}}) {
    if (count == 0) continue;
    lines.push_back(
        fmt::format("{} has several records of {} cells: their samples are pooled", side, count));
  }
  return lines;
}

std::string as_table(const Comparison& comparison, double threshold) {
  std::string out;
  Rows different = {{"differs", "A -> B"}};
  for (const Difference& d : comparison.environment) different.push_back({d.field, sides(d)});
  if (different.size() > 1) out += aligned(different, "ll") + '\n';
  if (!comparison.cells.empty()) {
    const Split fields = split(comparison);
    std::vector<std::string> shared;
    for (const std::string_view field : fields.shared) {
      shared.push_back(fmt::format("{} {}", field, value_of(comparison.cells[0].identity, field)));
    }
    if (!shared.empty())
      out += wrapped(fmt::format("{}", fmt::join(shared, ", ")), 100, 0) + "\n\n";
    out += aligned(rows_of(comparison, fields.varying),
                   std::string(fields.varying.size(), 'l') + "rrrlrl") +
           '\n';
  }
  out += tally(comparison, threshold) + '\n';
  for (const std::string& line : remarks(comparison)) out += line + '\n';
  return out;
}

std::string markdown_row(std::span<const std::string> cells) {
  std::string line = "|";
  for (const std::string& cell : cells) {
    line += ' ';
    for (const char c : cell) line += c == '|' ? std::string("\\|") : std::string(1, c);
    line += " |";
  }
  return line + '\n';
}

std::string markdown_table(const Rows& rows) {
  std::string out = markdown_row(rows[0]) + '|';
  for (std::size_t i = 0; i < rows[0].size(); ++i) out += " --- |";
  out += '\n';
  for (std::size_t i = 1; i < rows.size(); ++i) out += markdown_row(rows[i]);
  return out;
}

std::string as_markdown(const Comparison& comparison, double threshold) {
  std::string out;
  Rows different = {{"differs", "A -> B"}};
  for (const Difference& d : comparison.environment) different.push_back({d.field, sides(d)});
  if (different.size() > 1) out += markdown_table(different) + '\n';
  if (!comparison.cells.empty()) {
    out += markdown_table(rows_of(comparison, split(comparison).varying)) + '\n';
  }
  out += tally(comparison, threshold) + '\n';
  const auto lines = remarks(comparison);
  if (!lines.empty()) out += fmt::format("\n- {}\n", fmt::join(lines, "\n- "));
  return out;
}

Record json_of(const ComparedCell& cell) {
  Record out = cell.identity;
  out["samples_a"] = cell.num_a;
  out["samples_b"] = cell.num_b;
  out["median_a_ms"] = cell.median_a;
  out["median_b_ms"] = cell.median_b;
  out["ratio"] = cell.ratio;
  out["ratio_low"] = cell.interval.low;
  out["ratio_high"] = cell.interval.high;
  out["p"] = cell.p;
  out["verdict"] = name_of(cell.verdict);
  return out;
}

Record json_of(const FailedCell& cell) {
  Record out = cell.identity;
  if (!cell.error_a.empty()) out["error_a"] = cell.error_a;
  if (!cell.error_b.empty()) out["error_b"] = cell.error_b;
  out["verdict"] = "failed";
  return out;
}

Record with_verdict(Record identity, const char* verdict) {
  identity["verdict"] = verdict;
  return identity;
}

Record environment_json(const Comparison& comparison) {
  Record out = Record::object();
  for (const Difference& d : comparison.environment) out[d.field] = {{"a", d.a}, {"b", d.b}};
  return out;
}

/// Every cell, whatever can be said of it.
std::vector<Record> all_cells(const Comparison& comparison) {
  std::vector<Record> cells;
  for (const ComparedCell& cell : comparison.cells) cells.push_back(json_of(cell));
  for (const FailedCell& cell : comparison.failed) cells.push_back(json_of(cell));
  for (const Record& cell : comparison.only_a) cells.push_back(with_verdict(cell, "only in A"));
  for (const Record& cell : comparison.only_b) cells.push_back(with_verdict(cell, "only in B"));
  return cells;
}

std::string as_json(const Comparison& comparison, double threshold) {
  const Record out = {{"environment", environment_json(comparison)},
                      {"threshold", threshold},
                      {"pooled_a", comparison.pooled_a},
                      {"pooled_b", comparison.pooled_b},
                      {"cells", all_cells(comparison)}};
  return out.dump(1, ' ', false, Record::error_handler_t::replace) + '\n';
}

std::string as_jsonl(const Comparison& comparison) {
  std::string out = jsonl_row({{"environment", environment_json(comparison)}});
  for (const Record& cell : all_cells(comparison)) out += jsonl_row(cell);
  return out;
}

std::string csv_line(std::span<const std::string> cells) {
  std::string line;
  for (const std::string& cell : cells) {
    if (&cell != cells.data()) line += ',';
    const bool is_plain = cell.find_first_of(",\"\n\r") == std::string::npos;
    if (is_plain) {
      line += cell;
      continue;
    }
    line += '"';
    for (const char c : cell) line += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += '"';
  }
  return line + '\n';
}

/// One column per identity field and figure; the environment is left out.
std::string as_csv(const Comparison& comparison) {
  std::vector<std::string> columns;
  for (const RecordField& field : record_fields()) {
    if (field.is_identity) columns.emplace_back(field.name);
  }
  for (const char* name : {"samples_a", "samples_b", "median_a_ms", "median_b_ms", "ratio",
                           "ratio_low", "ratio_high", "p", "verdict", "error_a", "error_b"}) {
    columns.emplace_back(name);
  }
  std::string out = csv_line(columns);
  for (const Record& cell : all_cells(comparison)) {
    std::vector<std::string> values;
    for (const std::string& column : columns) {
      values.push_back(cell.contains(column) ? value_of(cell, column) : "");
    }
    out += csv_line(values);
  }
  return out;
}

std::string formatted(const Comparison& comparison, const CompareOptions& options) {
  switch (options.format) {
    case RecordFormat::table: return as_table(comparison, options.threshold);
    case RecordFormat::md: return as_markdown(comparison, options.threshold);
    case RecordFormat::json: return as_json(comparison, options.threshold);
    case RecordFormat::jsonl: return as_jsonl(comparison);
    case RecordFormat::csv: return as_csv(comparison);
  }
  return "";
}

std::vector<Record> records_of(const std::string& path) {
  std::vector<Record> records;
  try {
    records = read_records(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::io) throw;
    throw Error(ErrorCode::invalid_data, error.what());  // an input that cannot be read is bad
  }
  if (records.empty()) throw Error(ErrorCode::invalid_data, path + " has no records");
  return records;
}

}  // namespace

Status run_compare(std::span<const std::string> args, const std::string&) {
  CompareOptions options;
  const CommandLine line = command_line(options);
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  const auto a = records_of(options.a), b = records_of(options.b);
  const Comparison comparison = compare(a, b, options.threshold, options.across);
  print(formatted(comparison, options));
  if (comparison.cells.empty() && comparison.failed.empty()) {
    message(
        fmt::format("no cell of {} is in {}: --across FIELD,... compares cells that differ in "
                    "a field",
                    options.b, options.a));
  }
  return has_regression(comparison) ? kRegression : kDone;
}

}  // namespace switchyard::cli
