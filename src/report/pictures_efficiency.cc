// Achieved against the limit: a roofline (Williams, Waterman and Patterson 2009), or the share.

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "report/fields.h"
#include "report/pictures.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostRoofs = 4;

/// Values that differ by more than 1%, the highest first.
std::vector<double> distinct(std::vector<double> values) {
  std::sort(values.rbegin(), values.rend());
  std::vector<double> out;
  for (const double value : values) {
    if (out.empty() || value < 0.99 * out.back()) out.push_back(value);
  }
  if (out.size() > kMostRoofs) out.erase(out.begin() + 1, out.end());
  return out;
}

/// The ceilings that the records' limits were computed with: limit = max(flops / peak, bytes /
/// bandwidth), and limit_kind says which of the two it is.
struct Roofs {
  std::vector<double> bandwidths;  ///< bytes/s
  std::vector<double> peaks;       ///< flop/s
};

Roofs roofs_of(const Selection& selection) {
  Roofs roofs;
  for (const Record* record : selection.pointers()) {
    const double seconds = *number_of(*record, "limit_ms") / 1e3;
    if (!(seconds > 0)) continue;
    if (text_of(*record, "limit_kind") == "compute") {
      roofs.peaks.push_back(*number_of(*record, "flops") / seconds);
    } else {
      roofs.bandwidths.push_back(*number_of(*record, "bytes") / seconds);
    }
  }
  return {distinct(std::move(roofs.bandwidths)), distinct(std::move(roofs.peaks))};
}

std::string rate_name(double flops_per_s) {
  return flops_per_s >= 1e12 ? fmt::format("{:.3g} Tflop/s", flops_per_s / 1e12)
                             : fmt::format("{:.3g} Gflop/s", flops_per_s / 1e9);
}

/// Slopes up to the highest peak, and flat lines from the highest bandwidth's slope on.
void add_roofs(Chart& chart, const Roofs& roofs, double first_x, double last_x, double factor) {
  for (const double bandwidth : roofs.bandwidths) {
    const double end = roofs.peaks.empty() ? last_x : std::min(last_x, roofs.peaks[0] / bandwidth);
    if (end <= first_x) continue;
    chart.series.push_back({fmt::format("memory, {:.3g} GB/s", bandwidth / 1e9),
                            Mark::guide,
                            {{.x = first_x, .y = first_x * bandwidth * factor},
                             {.x = end, .y = end * bandwidth * factor}}});
  }
  for (const double peak : roofs.peaks) {
    const double begin =
        roofs.bandwidths.empty() ? first_x : std::max(first_x, peak / roofs.bandwidths[0]);
    if (begin >= last_x) continue;
    chart.series.push_back({fmt::format("compute, {}", rate_name(peak)),
                            Mark::guide,
                            {{.x = begin, .y = peak * factor}, {.x = last_x, .y = peak * factor}}});
  }
}

Picture roofline(const Selection& selection, const PlotOptions& options) {
  const std::vector<std::string> by =
      options.by.empty() ? std::vector<std::string>{"impl"} : options.by;
  const std::string axis = widest_axis(selection.records, selection.used, "tokens");
  const Grouping grouping = group_records(selection.records, selection.used, axis, by);
  double first_x = INFINITY, last_x = 0, largest = 0;
  Chart chart;
  for (const auto& group : grouping.groups) {
    Series s{.name = group.name, .mark = Mark::points};
    for (const std::int64_t i : group.records) {
      const Record& record = selection[i];
      const double flops = *number_of(record, "flops");
      Point point = *field_point(selection, "flops", Varies::rate)(i);
      const double per_ms = 1e3 / *number_of(record, "median_ms");
      point.x = flops / *number_of(record, "bytes");
      point.y *= per_ms;
      if (point.interval) {
        point.interval = Interval{point.interval->low * per_ms, point.interval->high * per_ms};
      }
      first_x = std::min(first_x, point.x);
      last_x = std::max(last_x, point.x);
      largest = std::max(largest, point.y);
      s.points.push_back(point);
    }
    chart.series.push_back(std::move(s));
  }
  const double factor = largest >= 1e12 ? 1e-12 : 1e-9;
  for (Series& s : chart.series) {
    for (Point& point : s.points) {
      point.y *= factor;
      if (point.interval) {
        point.interval = Interval{point.interval->low * factor, point.interval->high * factor};
      }
    }
    std::stable_sort(s.points.begin(), s.points.end(),
                     [](const Point& a, const Point& b) { return a.x < b.x; });
  }
  add_roofs(chart, roofs_of(selection), first_x / 2, last_x * 2, factor);
  chart.x = {.label = "intensity: flops per byte that must be moved", .scale = Scale::log10};
  chart.y = {.label = factor == 1e-12 ? "Tflop/s" : "Gflop/s", .scale = Scale::log10};

  std::vector<std::string> told = grouping.by;
  told.push_back(axis);
  return {title_of(selection, "achieved against the measured limits"),
          subtitle_of(selection, told),
          {{"", std::move(chart)}}};
}

Picture shares(const Selection& selection, const PlotOptions& options) {
  const std::string x =
      options.x.empty() ? widest_axis(selection.records, selection.used, "tokens") : options.x;
  const std::vector<std::string> by =
      options.by.empty() ? std::vector<std::string>{"impl"} : options.by;
  std::vector<std::string> told;
  Panel panel = line_panel(
      selection,
      {.x = x, .by = by, .field = "fraction_of_limit", .reference = 100, .reference_name = "limit"},
      field_point(selection, "fraction_of_limit", Varies::rate), told);
  return {title_of(selection, "share of the limit that was reached"),
          subtitle_of(selection, told),
          {std::move(panel)}};
}

}  // namespace

Picture efficiency_picture(std::span<const Record> records, const PlotOptions& options) {
  constexpr std::string_view kRoofline[] = {"median_ms", "limit_ms", "flops", "bytes"};
  constexpr std::string_view kShare[] = {"fraction_of_limit"};
  const auto can_be_roofline = [&](const Record& record) {
    return is_ok(record) && number_of(record, "flops").value_or(0) > 0 &&
           number_of(record, "bytes").value_or(0) > 0 && number_of(record, "limit_ms") &&
           number_of(record, "median_ms");
  };
  if (options.x.empty() && std::any_of(records.begin(), records.end(), can_be_roofline)) {
    Selection selection = select(records, "efficiency", kRoofline);
    std::erase_if(selection.used, [&](std::int64_t i) { return !can_be_roofline(selection[i]); });
    return roofline(selection, options);
  }
  return shares(select(records, "efficiency", kShare), options);
}

}  // namespace switchyard
