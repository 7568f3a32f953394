#include "report/plot.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "report/draw.h"
#include "report/fields.h"
#include "report/pictures.h"

namespace switchyard {
namespace {

constexpr PlotKindInfo kKinds[] = {
    {PlotKind::latency, "latency", "where the time goes: the stages of each cell, stacked"},
    {PlotKind::throughput, "throughput", "tokens per second over an axis"},
    {PlotKind::efficiency, "efficiency",
     "achieved against the limit: a roofline where flops are known, else the share of it"},
    {PlotKind::drop, "drop", "dropped assignments over the capacity factor"},
    {PlotKind::load, "load", "the load of each expert, and which tokens chose which"},
    {PlotKind::speedup, "speedup", "how many times as fast as a baseline"},
    {PlotKind::perm, "perm", "permutations: latency, effective bandwidth, share of the limit"},
};

std::string names(std::span<const std::string_view> fields) {
  std::string out;
  for (const auto field : fields) out += (out.empty() ? "" : ", ") + std::string(field);
  return out;
}

}  // namespace

std::span<const PlotKindInfo> plot_kinds() noexcept { return kKinds; }

PlotKind plot_kind_from_name(std::string_view name) {
  std::vector<std::string_view> known;
  for (const PlotKindInfo& info : kKinds) {
    if (info.name == name) return info.kind;
    known.push_back(info.name);
  }
  throw Error(ErrorCode::invalid_argument, unknown_name("plot kind", name, known));
}

Picture picture_of(PlotKind kind, std::span<const Record> records, const PlotOptions& options) {
  for (const std::string& field : options.by) {
    static_cast<void>(parse_match(field + "=any"));  // refuses a field that does not exist
  }
  switch (kind) {
    case PlotKind::latency: return latency_picture(records, options);
    case PlotKind::throughput: return throughput_picture(records, options);
    case PlotKind::efficiency: return efficiency_picture(records, options);
    case PlotKind::drop: return drop_picture(records, options);
    case PlotKind::load: return load_picture(records, options);
    case PlotKind::speedup: return speedup_picture(records, options);
    case PlotKind::perm: return perm_picture(records, options);
  }
  throw Error(ErrorCode::invalid_argument, "plot kind is not one of the enum's");
}

void plot(PlotKind kind, std::span<const Record> records, const PlotOptions& options,
          const std::string& path) {
  image_format_of_path(path);
  draw(picture_of(kind, records, options), path);
}

std::vector<const Record*> Selection::pointers() const {
  std::vector<const Record*> out;
  for (const std::int64_t i : used) out.push_back(&(*this)[i]);
  return out;
}

Selection select(std::span<const Record> records, std::string_view kind,
                 std::span<const std::string_view> needed) {
  Selection selection{.records = records};
  for (std::size_t i = 0; i < records.size(); ++i) {
    const bool has_all = std::all_of(needed.begin(), needed.end(), [&](std::string_view field) {
      return number_of(records[i], field).has_value();
    });
    if (!is_ok(records[i])) {
      ++selection.num_failed;
    } else if (!has_all) {
      ++selection.num_lacking;
    } else {
      selection.used.push_back(static_cast<std::int64_t>(i));
    }
  }
  require(!selection.used.empty(),
          "nothing to draw: {} needs ok records with {}; of {} records {} failed and {} lack it",
          kind, names(needed), records.size(), selection.num_failed, selection.num_lacking);
  return selection;
}

std::string title_of(const Selection& selection, std::string_view what) {
  std::string targets;
  std::set<std::string> seen;
  for (const Record* record : selection.pointers()) {
    const std::string bench = text_of(*record, "bench");
    if (!bench.empty() && seen.insert(bench).second)
      targets += (seen.size() > 1 ? ", " : "") + bench;
  }
  return targets.empty() ? std::string(what) : fmt::format("{}: {}", targets, what);
}

std::string subtitle_of(const Selection& selection, std::span<const std::string> told) {
  std::string text = common_values(selection.pointers(), told);
  if (selection.num_failed > 0) text += fmt::format("; left out: {} failed", selection.num_failed);
  if (selection.num_lacking > 0) {
    text += fmt::format("{}{} without these fields",
                        selection.num_failed > 0 ? ", " : "; left out: ", selection.num_lacking);
  }
  return text;
}

}  // namespace switchyard
