// Pictures of one measure over an axis: throughput, drop, speed-up, permutations.

#include <algorithm>
#include <set>

#include "base/check.h"
#include "bench/identity.h"
#include "report/fields.h"
#include "report/pictures.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostSeries = 16;

std::string x_or_widest(const Selection& selection, const PlotOptions& options,
                        std::string_view preferred) {
  if (!options.x.empty()) return options.x;
  return widest_axis(selection.records, selection.used, preferred);
}

std::vector<std::string> by_or_impl(const PlotOptions& options) {
  return options.by.empty() ? std::vector<std::string>{"impl"} : options.by;
}

/// Records of the selection that have a number in the field asked for as x.
Selection with_axis(Selection selection, const std::string& x) {
  quantity_of(x, 1);  // refuses a field that does not exist or is no number
  std::erase_if(selection.used, [&](std::int64_t i) { return !number_of(selection[i], x); });
  require(!selection.used.empty(), "nothing to draw: no ok record has a number in field {}", x);
  return selection;
}

Panel bars_of(std::vector<Series> series, Axis axis) {
  Bars bars{.axis = std::move(axis), .parts = {{}}, .bars = {}};
  for (const Series& s : series) {
    if (s.mark == Mark::guide || s.points.empty()) continue;
    const Point& point = s.points[0];
    bars.bars.push_back({.label = s.name, .parts = {point.y}, .end = {}, .record = point.record});
    if (point.interval) bars.bars.back().end = point;
  }
  bars.axis.scale = Scale::linear;
  bars.axis.from_zero = true;
  return {"", std::move(bars)};
}

}  // namespace

PointOf field_point(const Selection& selection, std::string field, Varies varies) {
  return [&selection, field = std::move(field), varies](std::int64_t i) -> std::optional<Point> {
    const Record& record = selection[i];
    const auto y = number_of(record, field);
    if (!y) return std::nullopt;
    Point point{.y = *y, .record = i};
    const auto median = number_of(record, "median_ms");
    const auto low = number_of(record, "ci95_low_ms"), high = number_of(record, "ci95_high_ms");
    if (varies != Varies::plain && median && low && high && *median > 0 && *low > 0) {
      point.interval = varies == Varies::time ? Interval{*y * *low / *median, *y * *high / *median}
                                              : Interval{*y * *median / *high, *y * *median / *low};
    }
    return point;
  };
}

Panel line_panel(const Selection& selection, const LinePanel& spec, const PointOf& point_of,
                 std::vector<std::string>& told) {
  const Grouping grouping = group_records(selection.records, selection.used, spec.x, spec.by);
  require(grouping.groups.size() <= kMostSeries,
          "{} series, told apart by {}: more than {} cannot be told apart in one picture; draw "
          "part of them with --where FIELD=VALUE",
          grouping.groups.size(), fmt::format("{}", fmt::join(grouping.by, ", ")), kMostSeries);
  told.insert(told.end(), grouping.by.begin(), grouping.by.end());
  told.push_back(spec.x);

  std::vector<Series> series;
  std::vector<double> all_x;
  double largest = 0;
  for (const auto& group : grouping.groups) {
    Series s{.name = group.name};
    for (const std::int64_t i : group.records) {
      auto point = point_of(i);
      if (!point) continue;
      point->x = *number_of(selection[i], spec.x);
      all_x.push_back(point->x);
      largest = std::max(largest, point->y);
      s.points.push_back(*point);
    }
    if (!s.points.empty()) series.push_back(std::move(s));
  }

  Quantity y = quantity_of(spec.field, largest);
  if (!spec.label.empty()) y = {spec.label, 1};
  for (Series& s : series) {
    for (Point& point : s.points) {
      point.y *= y.factor;
      if (point.interval) {
        point.interval = Interval{point.interval->low * y.factor, point.interval->high * y.factor};
      }
    }
  }
  const std::set<double> distinct_x(all_x.begin(), all_x.end());
  if (distinct_x.size() <= 1) return bars_of(std::move(series), {.label = y.label});

  const Quantity x = quantity_of(spec.x, *distinct_x.rbegin());
  for (double& value : all_x) value *= x.factor;
  for (Series& s : series) {
    for (Point& point : s.points) point.x *= x.factor;
  }
  Chart chart{axis_of(x.label, all_x), measured_axis(y.label, series), std::move(series)};
  if (spec.reference) {
    const auto [first, last] = std::minmax_element(all_x.begin(), all_x.end());
    chart.series.push_back(
        {spec.reference_name,
         Mark::guide,
         {{.x = *first, .y = *spec.reference}, {.x = *last, .y = *spec.reference}}});
  }
  return {"", std::move(chart)};
}

Picture throughput_picture(std::span<const Record> records, const PlotOptions& options) {
  constexpr std::string_view kNeeded[] = {"tokens_per_s"};
  Selection selection = select(records, "throughput", kNeeded);
  const std::string x = x_or_widest(selection, options, "tokens");
  selection = with_axis(std::move(selection), x);
  std::vector<std::string> told;
  Panel panel = line_panel(selection, {.x = x, .by = by_or_impl(options), .field = "tokens_per_s"},
                           field_point(selection, "tokens_per_s", Varies::rate), told);
  return {title_of(selection, "throughput"), subtitle_of(selection, told), {std::move(panel)}};
}

Picture drop_picture(std::span<const Record> records, const PlotOptions& options) {
  constexpr std::string_view kNeeded[] = {"drop_rate", "capacity_factor"};
  Selection selection = select(records, "drop", kNeeded);
  std::erase_if(selection.used, [&](std::int64_t i) {
    return number_of(selection[i], "capacity_factor") == 0;  // nothing can be dropped
  });
  require(!selection.used.empty(),
          "nothing to draw: no record has a capacity factor; measure with --capacity-factor");
  const std::string x = options.x.empty() ? "capacity_factor" : options.x;
  selection = with_axis(std::move(selection), x);
  std::vector<std::string> told;
  Panel panel = line_panel(selection, {.x = x, .by = options.by, .field = "drop_rate"},
                           field_point(selection, "drop_rate", Varies::plain), told);
  if (auto* chart = std::get_if<Chart>(&panel.content)) {
    chart->y.scale = Scale::linear;
    chart->y.from_zero = true;
  }
  return {
      title_of(selection, "dropped assignments"), subtitle_of(selection, told), {std::move(panel)}};
}

/// What the efficiency is held against, where that is one bandwidth for all.
std::string bandwidth_words(const Selection& selection) {
  const Record& first = selection[selection.used[0]];
  const std::string peak = text_of(first, "peak_bw_GBps");
  const bool is_common = std::all_of(selection.used.begin(), selection.used.end(), [&](auto i) {
    return text_of(selection[i], "peak_bw_GBps") == peak;
  });
  if (peak.empty() || !is_common) return "";
  return fmt::format("; limit: {} GB/s, {}", peak, text_of(first, "peak_bw_source"));
}

Picture perm_picture(std::span<const Record> records, const PlotOptions& options) {
  constexpr std::string_view kNeeded[] = {"median_ms"};
  Selection selection = select(records, "perm", kNeeded);
  const bool has_batch = std::any_of(selection.used.begin(), selection.used.end(), [&](auto i) {
    return number_of(selection[i], "batch_size").has_value();
  });
  const std::string x = x_or_widest(selection, options, has_batch ? "batch_size" : "tokens");
  selection = with_axis(std::move(selection), x);
  struct Part {
    const char* title;
    const char* field;
    Varies varies;
  };
  constexpr Part kParts[] = {{"Latency", "median_ms", Varies::time},
                             {"Effective bandwidth", "bw_GiBps_strict", Varies::rate},
                             {"Efficiency", "fraction_of_limit", Varies::rate}};
  Picture picture;
  std::vector<std::string> told;
  for (const Part& part : kParts) {
    const PointOf point_of = field_point(selection, part.field, part.varies);
    const bool has_any = std::any_of(selection.used.begin(), selection.used.end(),
                                     [&](auto i) { return point_of(i).has_value(); });
    if (!has_any) continue;
    Panel panel = line_panel(selection, {.x = x, .by = by_or_impl(options), .field = part.field},
                             point_of, told);
    panel.title = part.title;
    picture.panels.push_back(std::move(panel));
  }
  picture.title = title_of(selection, "latency, bandwidth and efficiency");
  picture.subtitle = subtitle_of(selection, told) + bandwidth_words(selection);
  return picture;
}

namespace {

/// Everything that tells cells apart, but for the fields the baseline is chosen by.
std::string cell_without(const Record& record, std::span<const Match> baseline) {
  std::vector<std::string_view> chosen;
  for (const Match& match : baseline) chosen.push_back(match.field);
  return fmt::format("{} {} {}", cell_line(record, chosen), text_of(record, "cpu"),
                     text_of(record, "gpu"));
}

std::string name_of_baseline(std::span<const Match> baseline) {
  std::string name;
  for (const Match& match : baseline) name += (name.empty() ? "" : ", ") + match.value;
  return name;
}

}  // namespace

Picture speedup_picture(std::span<const Record> records, const PlotOptions& options) {
  constexpr std::string_view kNeeded[] = {"median_ms"};
  require(!options.baseline.empty(),
          "speedup needs a baseline: --baseline FIELD=VALUE, for example --baseline impl=loop");
  Selection selection = select(records, "speedup", kNeeded);
  const auto is_baseline = [&](std::int64_t i) {
    return std::all_of(options.baseline.begin(), options.baseline.end(),
                       [&](const Match& match) { return matches(selection[i], match); });
  };
  std::map<std::string, std::int64_t> baseline_of;
  for (const std::int64_t i : selection.used) {
    if (is_baseline(i)) baseline_of[cell_without(selection[i], options.baseline)] = i;
  }
  require(!baseline_of.empty(), "no ok record is of the baseline {}",
          name_of_baseline(options.baseline));
  std::erase_if(selection.used, [&](std::int64_t i) {
    return is_baseline(i) || !baseline_of.contains(cell_without(selection[i], options.baseline));
  });
  require(!selection.used.empty(),
          "nothing to compare: no record differs from one of {} in {} only",
          name_of_baseline(options.baseline), options.baseline[0].field);

  const PointOf point_of = [&](std::int64_t i) -> std::optional<Point> {
    const Record& record = selection[i];
    const Record& base = selection[baseline_of.at(cell_without(record, options.baseline))];
    Point point{.y = *number_of(base, "median_ms") / *number_of(record, "median_ms"), .record = i};
    const auto low = number_of(record, "ci95_low_ms"), high = number_of(record, "ci95_high_ms");
    const auto base_low = number_of(base, "ci95_low_ms");
    const auto base_high = number_of(base, "ci95_high_ms");
    // The ratio of the intervals' far ends: no narrower than the interval of the ratio.
    if (low && high && base_low && base_high && *low > 0) {
      point.interval = Interval{*base_low / *high, *base_high / *low};
    }
    return point;
  };
  const std::string x = x_or_widest(selection, options, "tokens");
  selection = with_axis(std::move(selection), x);
  const std::string name = name_of_baseline(options.baseline);
  std::vector<std::string> told;
  Panel panel = line_panel(selection,
                           {.x = x,
                            .by = by_or_impl(options),
                            .field = "median_ms",
                            .label = fmt::format("times as fast as {}", name),
                            .reference = 1,
                            .reference_name = name},
                           point_of, told);
  return {title_of(selection, fmt::format("speed-up over {}", name)),
          subtitle_of(selection, told),
          {std::move(panel)}};
}

}  // namespace switchyard
