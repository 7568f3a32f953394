// Where the time goes: the stages of each record, stacked.

#include <algorithm>

#include "base/check.h"
#include "report/fields.h"
#include "report/pictures.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostBars = 48;
constexpr int kOtherColour = 6;  // grey

struct Stage {
  std::string field;
  std::string name;
};

/// t_x_ms of the schema, in its order; t_route_ms sums others up.
std::vector<Stage> stages() {
  std::vector<Stage> all;
  for (const RecordField& field : record_fields()) {
    std::string_view name = field.name;
    if (!name.starts_with("t_") || !name.ends_with("_ms") || name == "t_route_ms") continue;
    name.remove_prefix(2);
    name.remove_suffix(3);
    all.push_back({std::string(field.name), name == "logit" ? "logits" : std::string(name)});
  }
  return all;
}

bool has_stages(const Record& record, std::span<const Stage> all) {
  return std::any_of(all.begin(), all.end(), [&](const Stage& stage) {
    return number_of(record, stage.field).has_value();
  });
}

/// Lengths in ms of the stages, then of what is left of the median. Medians do not add up, so a
/// rest below 2% means nothing.
std::vector<double> parts_of(const Record& record, std::span<const Stage> all) {
  std::vector<double> parts;
  double sum = 0;
  for (const Stage& stage : all) {
    parts.push_back(number_of(record, stage.field).value_or(0));
    sum += parts.back();
  }
  const double median = *number_of(record, "median_ms");
  parts.push_back(median - sum > 0.02 * median ? median - sum : 0);
  return parts;
}

double sum_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

/// Takes out parts that no bar has.
void drop_empty_parts(Bars& bars) {
  for (std::size_t p = bars.parts.size(); p-- > 0;) {
    const auto at = static_cast<std::ptrdiff_t>(p);
    const bool is_empty = std::all_of(bars.bars.begin(), bars.bars.end(),
                                      [&](const Bar& bar) { return bar.parts[p] == 0; });
    if (!is_empty) continue;
    bars.parts.erase(bars.parts.begin() + at);
    for (Bar& bar : bars.bars) bar.parts.erase(bar.parts.begin() + at);
  }
}

Bars shares_of(Bars bars) {
  bars.axis = {.label = "share of the time, %", .from_zero = true};
  for (Bar& bar : bars.bars) {
    const double sum = sum_of(bar.parts);
    for (double& part : bar.parts) part *= sum > 0 ? 100 / sum : 0;
    bar.end.reset();
  }
  return bars;
}

}  // namespace

Picture latency_picture(std::span<const Record> records, const PlotOptions& options) {
  constexpr std::string_view kNeeded[] = {"median_ms"};
  Selection selection = select(records, "latency", kNeeded);
  const std::vector<Stage> all = stages();
  std::erase_if(selection.used, [&](std::int64_t i) { return !has_stages(selection[i], all); });
  require(!selection.used.empty(),
          "nothing to draw: no ok record has stage times (t_experts_ms and the like); the targets "
          "layer and router write them");

  const Grouping grouping = group_records(records, selection.used, "", options.by);
  require(grouping.groups.size() <= kMostBars,
          "{} bars: more than {} cannot be read; draw part of them with --where FIELD=VALUE",
          grouping.groups.size(), kMostBars);
  double longest = 0, shortest = 0;
  for (const auto& group : grouping.groups) {
    const double sum = sum_of(parts_of(selection[group.records[0]], all));
    longest = std::max(longest, sum);
    shortest = shortest == 0 ? sum : std::min(shortest, sum);
  }
  const Quantity time = quantity_of("median_ms", longest);
  Bars bars{.axis = {.label = time.label, .from_zero = true}, .parts = {}, .bars = {}};
  for (const Stage& stage : all) {
    bars.parts.push_back({stage.name, static_cast<int>(bars.parts.size())});
  }
  bars.parts.push_back({"other", kOtherColour});
  for (const auto& group : grouping.groups) {
    const std::int64_t i = group.records[0];
    const Record& record = selection[i];
    Bar bar{.label = group.name, .parts = parts_of(record, all), .end = {}, .record = i};
    for (double& part : bar.parts) part *= time.factor;
    const auto low = number_of(record, "ci95_low_ms"), high = number_of(record, "ci95_high_ms");
    if (low && high) {
      bar.end = Point{.y = *number_of(record, "median_ms") * time.factor,
                      .interval = Interval{*low * time.factor, *high * time.factor},
                      .record = i};
    }
    if (bar.label.empty()) bar.label = text_of(record, "impl");
    bars.bars.push_back(std::move(bar));
  }
  drop_empty_parts(bars);

  Picture picture{
      title_of(selection, "where the time goes"), subtitle_of(selection, grouping.by), {}};
  picture.panels.push_back({"", bars});
  // Beside a long bar the parts of a short one cannot be seen.
  if (longest > 4 * shortest) picture.panels.push_back({"", shares_of(std::move(bars))});
  return picture;
}

}  // namespace switchyard
