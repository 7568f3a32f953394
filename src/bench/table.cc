#include "bench/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

namespace switchyard {
namespace {

enum class Show { text, count, milliseconds, percent, interval, rate, ratio, bytes, error };

struct Column {
  std::string_view field;
  std::string_view title;
  Show show;
  int keep;  ///< columns with the least go first when the width is short; kIdentity never
};

constexpr int kIdentity = 100;

// What names a cell. Shown as columns where they vary, in the heading where they do not.
constexpr Column kIdentityColumns[] = {
    {"bench", "bench", Show::text, kIdentity},
    {"config", "config", Show::text, kIdentity},
    {"batch_size", "batch", Show::count, kIdentity},
    {"seq_len", "sequence", Show::count, kIdentity},
    {"tokens", "T", Show::count, kIdentity},
    {"hidden", "H", Show::count, kIdentity},
    {"ffn", "F", Show::count, kIdentity},
    {"experts", "E", Show::count, kIdentity},
    {"top_k", "K", Show::count, kIdentity},
    {"capacity_factor", "capacity", Show::ratio, kIdentity},
    {"drop_policy", "drops", Show::text, kIdentity},
    {"strategy", "strategy", Show::text, kIdentity},
    {"router", "router", Show::text, kIdentity},
    {"router_hidden", "R", Show::count, kIdentity},
    {"router_params", "parameters", Show::text, kIdentity},
    {"routing", "routing", Show::text, kIdentity},
    {"layout", "layout", Show::text, kIdentity},
    {"impl", "impl", Show::text, kIdentity},
    {"library", "library", Show::text, 12},
    {"device", "device", Show::text, kIdentity},
    {"isa", "ISA", Show::text, kIdentity},
    {"dtype", "dtype", Show::text, kIdentity},
    {"weights", "weights", Show::text, kIdentity},
    {"threads", "threads", Show::count, kIdentity},
    {"ranks", "ranks", Show::count, kIdentity},
    {"seed", "seed", Show::count, kIdentity},
};

constexpr Column kMeasureColumns[] = {
    {"median_ms", "ms", Show::milliseconds, kIdentity},
    {"ci95_low_ms", "+-%", Show::interval, 60},
    {"p95_ms", "p95 ms", Show::milliseconds, 10},
    {"t_logit_ms", "logits ms", Show::milliseconds, 20},
    {"t_select_ms", "select ms", Show::milliseconds, 21},
    {"t_plan_ms", "plan ms", Show::milliseconds, 22},
    {"t_pack_ms", "pack ms", Show::milliseconds, 23},
    {"t_route_ms", "route ms", Show::milliseconds, 57},
    {"t_experts_ms", "experts ms", Show::milliseconds, 59},
    {"t_combine_ms", "combine ms", Show::milliseconds, 56},
    {"routing_share", "routing %", Show::percent, 15},
    {"tokens_per_s", "tokens/s", Show::rate, 46},
    {"tflops", "Tflop/s", Show::ratio, 55},
    {"bw_GiBps_strict", "GiB/s", Show::ratio, 40},
    {"limit_ms", "limit ms", Show::milliseconds, 70},
    {"limit_kind", "bound", Show::text, 30},
    {"fraction_of_limit", "of limit %", Show::percent, 80},
    {"load_max_over_mean", "max/mean load", Show::ratio, 65},
    {"balance_loss", "balance loss", Show::ratio, 8},
    {"drop_rate", "dropped %", Show::percent, 72},
    {"token_drop_rate", "lost tokens %", Show::percent, 62},
    {"dropless_capacity_factor", "dropless at", Show::ratio, 63},
    {"padding_rows", "padding rows", Show::count, 35},
    {"check_rel_err", "rel. error", Show::error, 75},
    {"bytes_moved", "moved", Show::bytes, 6},
    {"peak_rss_bytes", "peak memory", Show::bytes, 5},
};

// What a cell would cost: of interest when nothing was timed.
constexpr Column kCostColumns[] = {
    {"memory_bytes", "memory", Show::bytes, 90},
    {"flops", "flop", Show::rate, 89},
    {"bytes", "traffic", Show::bytes, 88},
    {"limit_ms", "limit ms", Show::milliseconds, 87},
};

std::string digits(double x, int significant) {
  if (x == 0 || !std::isfinite(x)) return fmt::format("{}", x);
  const int before_point = static_cast<int>(std::floor(std::log10(std::abs(x)))) + 1;
  return fmt::format("{:.{}f}", x, std::clamp(significant - before_point, 0, 9));
}

std::string scaled(double x, double base, std::span<const std::string_view> units) {
  std::size_t unit = 0;
  while (std::abs(x) >= base && unit + 1 < units.size()) {
    x /= base;
    ++unit;
  }
  return unit == 0 && x == std::floor(x) ? fmt::format("{:.0f}{}", x, units[0])
                                         : digits(x, 3) + std::string(units[unit]);
}

std::string shown(double x, Show show) {
  constexpr std::string_view kThousands[] = {"", "k", "M", "G", "T", "P"};
  constexpr std::string_view kBytes[] = {" B", " KiB", " MiB", " GiB", " TiB"};
  switch (show) {
    case Show::milliseconds: return digits(x, 4);
    case Show::percent: return fmt::format("{:.1f}", 100 * x);
    case Show::rate: return scaled(x, 1000, kThousands);
    case Show::ratio: return digits(x, 3);
    case Show::bytes: return scaled(x, 1024, kBytes);
    case Show::error: return x == 0 ? "0" : fmt::format("{:.1e}", x);
    default: return fmt::format("{}", x);
  }
}

bool failed(const Record& record) { return !record.value("ok", true); }

// One line of text: a table has no place for others.
std::string single_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return text;
}

std::string cell_text(const Record& record, const Column& column) {
  if (column.field == "median_ms" && failed(record)) return "failed";
  const auto it = record.find(column.field);
  if (it == record.end()) return "-";
  if (it->is_string()) return single_line(it->get<std::string>());
  if (it->is_boolean()) return it->get<bool>() ? "yes" : "no";
  if (column.show == Show::interval) {
    const double median = record.value("median_ms", 0.0);
    const double half = (record.value("ci95_high_ms", 0.0) - it->get<double>()) / 2;
    return median > 0 ? fmt::format("{:.1f}", 100 * half / median) : "-";
  }
  if (column.show == Show::count && it->is_number_integer()) {
    return fmt::format("{}", it->get<std::int64_t>());
  }
  return it->is_number() ? shown(it->get<double>(), column.show) : "-";
}

bool any_has(std::span<const Record> records, std::string_view field) {
  return std::any_of(records.begin(), records.end(),
                     [&](const Record& record) { return record.contains(field); });
}

bool varies(std::span<const Record> records, std::string_view field) {
  const auto value = [&](const Record& record) { return record.value(field, Record()); };
  return std::any_of(records.begin(), records.end(),
                     [&](const Record& record) { return value(record) != value(records[0]); });
}

bool tells_something(std::span<const Record> records, std::string_view field) {
  return std::any_of(records.begin(), records.end(), [&](const Record& record) {
    const auto it = record.find(field);
    return it != record.end() && *it != 0;
  });
}

bool is_always_column(std::string_view field) { return field == "tokens" || field == "impl"; }

std::vector<Column> chosen_columns(std::span<const Record> records) {
  std::vector<Column> columns;
  for (const auto& column : kIdentityColumns) {
    if (is_always_column(column.field) ? any_has(records, column.field)
                                       : varies(records, column.field)) {
      columns.push_back(column);
    }
  }
  const bool timed = any_has(records, "median_ms");
  const auto add = [&](const Column& column) {
    const bool says_failed =
        column.field == "median_ms" && std::any_of(records.begin(), records.end(), failed);
    if (says_failed || tells_something(records, column.field)) columns.push_back(column);
  };
  if (timed || !any_has(records, "memory_bytes")) {
    for (const auto& column : kMeasureColumns) add(column);
  } else {
    for (const auto& column : kCostColumns) add(column);
  }
  return columns;
}

std::string heading(std::span<const Record> records) {
  std::string line;
  for (const auto& column : kIdentityColumns) {
    if (is_always_column(column.field) || varies(records, column.field)) continue;
    const std::string text = cell_text(records[0], column);
    if (text == "-" || text.empty()) continue;
    if (!line.empty()) line += ", ";
    line += fmt::format("{} {}", column.title, text);
  }
  return line;
}

// Columns a terminal takes: UTF-8 continuation bytes take none.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

using Rows = std::vector<std::vector<std::string>>;  // [0]: titles

Rows rows_of(std::span<const Record> records, std::span<const Column> columns) {
  Rows rows(records.size() + 1);
  for (const auto& column : columns) rows[0].emplace_back(column.title);
  for (std::size_t i = 0; i < records.size(); ++i) {
    for (const auto& column : columns) rows[i + 1].push_back(cell_text(records[i], column));
  }
  return rows;
}

std::vector<std::size_t> widths_of(const Rows& rows) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  return widths;
}

constexpr std::size_t kGap = 2;

void drop_columns(std::span<const Record> records, std::size_t width,
                  std::vector<Column>& columns) {
  for (;;) {
    std::size_t total = 0;
    for (const std::size_t w : widths_of(rows_of(records, columns))) total += w + kGap;
    if (total <= width + kGap) return;
    const auto least = std::min_element(columns.begin(), columns.end(),
                                        [](auto& a, auto& b) { return a.keep < b.keep; });
    if (least == columns.end() || least->keep == kIdentity) return;
    columns.erase(least);
  }
}

std::string aligned(std::span<const std::string> row, std::span<const Column> columns,
                    std::span<const std::size_t> widths) {
  std::string line;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::string space(widths[i] - width_of(row[i]), ' ');
    if (i > 0) line.append(kGap, ' ');
    line += columns[i].show == Show::text ? row[i] + space : space + row[i];
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + '\n';
}

std::string markdown_cells(std::span<const std::string> cells) {
  std::string line = "|";
  for (const auto& cell : cells) {
    line += ' ';
    for (const char c : cell) line += c == '|' ? std::string("\\|") : std::string(1, c);
    line += " |";
  }
  return line + '\n';
}

std::string markdown_rule(std::span<const Column> columns) {
  std::string line = "|";
  for (const auto& column : columns) line += column.show == Show::text ? " --- |" : " ---: |";
  return line + '\n';
}

std::string error_of(const Record& record) {
  return single_line(record.value("error", std::string("no reason was given")));
}

// Of markdown files, whose later records are unknown when the header is written.
constexpr Column kFileColumns[] = {
    {"bench", "bench", Show::text, kIdentity},
    {"config", "config", Show::text, kIdentity},
    {"tokens", "T", Show::count, kIdentity},
    {"hidden", "H", Show::count, kIdentity},
    {"ffn", "F", Show::count, kIdentity},
    {"experts", "E", Show::count, kIdentity},
    {"top_k", "K", Show::count, kIdentity},
    {"strategy", "strategy", Show::text, kIdentity},
    {"routing", "routing", Show::text, kIdentity},
    {"layout", "layout", Show::text, kIdentity},
    {"impl", "impl", Show::text, kIdentity},
    {"isa", "ISA", Show::text, kIdentity},
    {"dtype", "dtype", Show::text, kIdentity},
    {"weights", "weights", Show::text, kIdentity},
    {"threads", "threads", Show::count, kIdentity},
    {"median_ms", "ms", Show::milliseconds, kIdentity},
    {"ci95_low_ms", "+-%", Show::interval, kIdentity},
    {"tokens_per_s", "tokens/s", Show::rate, kIdentity},
    {"tflops", "Tflop/s", Show::ratio, kIdentity},
    {"limit_ms", "limit ms", Show::milliseconds, kIdentity},
    {"fraction_of_limit", "of limit %", Show::percent, kIdentity},
    {"load_max_over_mean", "max/mean load", Show::ratio, kIdentity},
    {"check_rel_err", "rel. error", Show::error, kIdentity},
    {"error", "error", Show::text, kIdentity},
};

}  // namespace

std::string text_table(std::span<const Record> records, int width) {
  if (records.empty()) return "";
  std::vector<Column> columns = chosen_columns(records);
  if (width > 0) drop_columns(records, static_cast<std::size_t>(width), columns);
  const Rows rows = rows_of(records, columns);
  const std::vector<std::size_t> widths = widths_of(rows);
  std::string out = heading(records);
  if (!out.empty()) out += "\n\n";
  out += aligned(rows[0], columns, widths);
  for (std::size_t i = 0; i < records.size(); ++i) {
    out += aligned(rows[i + 1], columns, widths);
    if (failed(records[i])) out += fmt::format("    error: {}\n", error_of(records[i]));
  }
  return out;
}

std::string markdown_table(std::span<const Record> records) {
  if (records.empty()) return "";
  const std::vector<Column> columns = chosen_columns(records);
  const Rows rows = rows_of(records, columns);
  std::string out = heading(records);
  if (!out.empty()) out += "\n\n";
  out += markdown_cells(rows[0]) + markdown_rule(columns);
  for (std::size_t i = 1; i < rows.size(); ++i) out += markdown_cells(rows[i]);
  bool separated = false;
  for (const auto& record : records) {
    if (!failed(record)) continue;
    if (!separated) out += '\n';
    separated = true;
    out += fmt::format("- {} at T={}: {}\n", cell_text(record, {"impl", "", Show::text, 0}),
                       cell_text(record, {"tokens", "", Show::count, 0}), error_of(record));
  }
  return out;
}

std::string markdown_header() {
  return markdown_cells(rows_of({}, kFileColumns)[0]) + markdown_rule(kFileColumns);
}

std::string markdown_row(const Record& record) {
  return markdown_cells(rows_of({&record, 1}, kFileColumns)[1]);
}

}  // namespace switchyard
