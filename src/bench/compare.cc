#include "bench/compare.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/ranges.h>

#include "base/check.h"
#include "bench/identity.h"

namespace switchyard {
namespace {

constexpr double kAlpha = 0.05;
constexpr std::size_t kMinSamples = 6;  // fewer have no 95% interval of the median
constexpr std::uint64_t kSeed = 17;     // of resampling: two comparisons of one pair agree

constexpr std::string_view kEnvironment[] = {"host",    "cpu",       "gpu",      "threads",
                                             "isa",     "library",   "compiler", "version",
                                             "git_sha", "git_dirty", "config"};

/// Everything that one side has of one cell.
struct CellSamples {
  Record identity;
  std::vector<const Record*> records;
  std::vector<double> ms;  ///< of those that are ok
  std::string error;       ///< of the last that is not, when none is
};

/// One side: its cells in the order met, and where to find them.
struct Side {
  std::vector<CellSamples> cells;
  std::map<std::string, std::vector<std::size_t>> cells_of_line;
};

Record identity_of(const Record& record) {
  Record identity = Record::object();
  for (const RecordField& field : record_fields()) {
    const auto found = record.find(field.name);
    if (field.is_identity && found != record.end()) identity[std::string(field.name)] = *found;
  }
  return identity;
}

/// Samples of a record that holds a usable time, else nothing and why.
std::optional<std::string> why_unusable(const Record& record) {
  if (!record.value("ok", false)) return record.value("error", std::string("not ok"));
  const auto samples = record.find("samples_ms");
  if (samples == record.end() || samples->empty()) return "no samples_ms";
  for (const auto& sample : *samples) {
    if (!(sample.get<double>() > 0)) return "a sample of 0 ms";
  }
  return std::nullopt;
}

void add(CellSamples& cell, const Record& record) {
  cell.records.push_back(&record);
  if (const auto why = why_unusable(record)) {
    if (cell.ms.empty()) cell.error = *why;
    return;
  }
  cell.error.clear();
  for (const auto& sample : record["samples_ms"]) cell.ms.push_back(sample.get<double>());
}

Side side_of(std::span<const Record> records, std::span<const std::string_view> without) {
  constexpr std::string_view kLabel[] = {"config"};
  Side side;
  std::map<std::string, std::size_t> cell_of_whole_line;
  for (const Record& record : records) {
    const auto [found, is_new] =
        cell_of_whole_line.emplace(cell_line(record, kLabel), side.cells.size());
    if (is_new) {
      side.cells.push_back({identity_of(record), {}, {}, {}});
      side.cells_of_line[cell_line(record, without)].push_back(found->second);
    }
    add(side.cells[found->second], record);
  }
  return side;
}

std::size_t num_pooled(const Side& side) {
  return static_cast<std::size_t>(
      std::count_if(side.cells.begin(), side.cells.end(), [](const CellSamples& cell) {
        return std::count_if(cell.records.begin(), cell.records.end(),
                             [](const Record* record) { return !why_unusable(*record); }) > 1;
      }));
}

std::string text_of(const Record& record, std::string_view field) {
  const auto found = record.find(field);
  if (found == record.end()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// The one value that all have, or nothing.
std::optional<std::string> only_value(std::span<const Record> records, std::string_view field) {
  if (records.empty()) return std::nullopt;
  const std::string first = text_of(records[0], field);
  for (const Record& record : records) {
    if (text_of(record, field) != first) return std::nullopt;
  }
  return first;
}

std::vector<std::string_view> left_out(std::span<const Record> a, std::span<const Record> b,
                                       std::span<const std::string> across) {
  std::vector<std::string_view> fields = {"config"};
  const auto threads_a = only_value(a, "threads"), threads_b = only_value(b, "threads");
  if (threads_a && threads_b && threads_a != threads_b) fields.push_back("threads");
  for (const std::string& field : across) {
    const RecordField* found = find_record_field(field);
    require(
        found != nullptr && found->is_identity,
        "'{}' is no field that cells are matched by: `switchyard bench TARGET --list` shows them",
        field);
    fields.push_back(found->name);
  }
  return fields;
}

ComparedCell compared(const CellSamples& a, const CellSamples& b, double threshold) {
  ComparedCell cell;
  cell.identity = b.identity;
  cell.num_a = a.ms.size();
  cell.num_b = b.ms.size();
  cell.median_a = summarise(a.ms, kSeed).median;
  cell.median_b = summarise(b.ms, kSeed).median;
  cell.ratio = cell.median_b / cell.median_a;
  cell.interval = bootstrap_ratio(a.ms, b.ms, kSeed);
  cell.p = mann_whitney(a.ms, b.ms).p;
  if (std::min(cell.num_a, cell.num_b) >= kMinSamples) {
    cell.verdict = verdict_of(cell.interval, cell.p, threshold);
  }
  return cell;
}

using Values = std::vector<std::set<std::string>>;  // by field

void add_values(const CellSamples& cell, std::span<const std::string_view> fields, Values& values) {
  for (const Record* record : cell.records) {
    if (why_unusable(*record)) continue;
    for (std::size_t f = 0; f < fields.size(); ++f) values[f].insert(text_of(*record, fields[f]));
  }
}

std::vector<Difference> differences(std::span<const std::string_view> fields, const Values& a,
                                    const Values& b) {
  std::vector<Difference> out;
  for (std::size_t f = 0; f < fields.size(); ++f) {
    if (a[f] == b[f]) continue;
    out.push_back({std::string(fields[f]), {a[f].begin(), a[f].end()}, {b[f].begin(), b[f].end()}});
  }
  return out;
}

}  // namespace

std::string_view name_of(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::faster: return "faster";
    case Verdict::same: return "same";
    case Verdict::unclear: return "unclear";
    case Verdict::slower: return "slower";
  }
  return "";
}

Verdict verdict_of(const Interval& ratio, double p, double threshold) noexcept {
  const double most = 1 + threshold, least = 1 / most;
  if (ratio.low >= least && ratio.high <= most) return Verdict::same;
  if (p >= kAlpha) return Verdict::unclear;
  if (ratio.low > most) return Verdict::slower;
  if (ratio.high < least) return Verdict::faster;
  return Verdict::unclear;
}

Comparison compare(std::span<const Record> a, std::span<const Record> b, double threshold,
                   std::span<const std::string> across) {
  require(threshold >= 0, "threshold is {}: expected at least 0", threshold);
  const std::vector<std::string_view> without = left_out(a, b, across);
  const Side side_a = side_of(a, without), side_b = side_of(b, without);

  std::vector<std::string_view> fields(std::begin(kEnvironment), std::end(kEnvironment));
  for (const std::string_view field : without) {
    if (std::find(fields.begin(), fields.end(), field) == fields.end()) fields.push_back(field);
  }
  Values values_a(fields.size()), values_b(fields.size());

  Comparison out;
  out.pooled_a = num_pooled(side_a);
  out.pooled_b = num_pooled(side_b);
  for (const auto& [line, cells] : side_a.cells_of_line) {
    require(cells.size() == 1, "A has {} cells that nothing tells apart without {}: {}",
            cells.size(), fmt::join(across, ", "), line);
  }
  for (const CellSamples& cell : side_a.cells) {
    if (!side_b.cells_of_line.contains(cell_line(cell.identity, without))) {
      out.only_a.push_back(cell.identity);
    }
  }
  for (const CellSamples& cell : side_b.cells) {
    const auto found = side_a.cells_of_line.find(cell_line(cell.identity, without));
    if (found == side_a.cells_of_line.end()) {
      out.only_b.push_back(cell.identity);
      continue;
    }
    const CellSamples& before = side_a.cells[found->second[0]];
    if (before.ms.empty() || cell.ms.empty()) {
      out.failed.push_back({cell.identity, before.error, cell.error, !before.ms.empty()});
      continue;
    }
    out.cells.push_back(compared(before, cell, threshold));
    add_values(before, fields, values_a);
    add_values(cell, fields, values_b);
  }
  out.environment = differences(fields, values_a, values_b);
  return out;
}

bool has_regression(const Comparison& comparison) noexcept {
  return std::any_of(comparison.cells.begin(), comparison.cells.end(),
                     [](const ComparedCell& cell) { return cell.verdict == Verdict::slower; }) ||
         std::any_of(comparison.failed.begin(), comparison.failed.end(),
                     [](const FailedCell& cell) { return cell.is_regression; });
}

}  // namespace switchyard
