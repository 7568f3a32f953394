#pragma once

#include <functional>
#include <string>

#include "report/plot.h"

namespace switchyard {

/// The records a picture is made of: indices of the whole list.
struct Selection {
  std::span<const Record> records = {};
  std::vector<std::int64_t> used = {};
  std::int64_t num_failed = 0;   ///< of all records
  std::int64_t num_lacking = 0;  ///< ok, without what the picture shows

  const Record& operator[](std::int64_t i) const { return records[static_cast<std::size_t>(i)]; }
  std::vector<const Record*> pointers() const;
};

/// The records that are ok and hold every field of `needed`.
/// Throws Error(invalid_argument) that counts what was wrong with the others when none is left.
Selection select(std::span<const Record> records, std::string_view kind,
                 std::span<const std::string_view> needed);

/// "layer: where the time goes", with the targets of the records in front.
std::string title_of(const Selection& selection, std::string_view what);

/// What the records have in common, what was left out, in one line.
std::string subtitle_of(const Selection& selection, std::span<const std::string> told);

/// y of a record, or nothing; its x is filled in later.
using PointOf = std::function<std::optional<Point>(std::int64_t record)>;

/// The record's field, with the interval that its median's implies: `time` for a field that grows
/// with the time, `rate` for one that falls with it, `plain` for one that has none.
enum class Varies { time, rate, plain };
PointOf field_point(const Selection& selection, std::string field, Varies varies);

/// Series over an axis; horizontal bars where the axis has a single value. `told` receives the
/// fields that the panel tells apart.
struct LinePanel {
  std::string x = {};
  std::vector<std::string> by = {};
  std::string field = {};  ///< gives the unit and the label of y
  std::string label = {};  ///< instead of the field's, when not empty
  std::optional<double> reference = {};
  std::string reference_name = {};
};
Panel line_panel(const Selection& selection, const LinePanel& spec, const PointOf& point_of,
                 std::vector<std::string>& told);

Picture latency_picture(std::span<const Record> records, const PlotOptions& options);
Picture throughput_picture(std::span<const Record> records, const PlotOptions& options);
Picture efficiency_picture(std::span<const Record> records, const PlotOptions& options);
Picture drop_picture(std::span<const Record> records, const PlotOptions& options);
Picture load_picture(std::span<const Record> records, const PlotOptions& options);
Picture speedup_picture(std::span<const Record> records, const PlotOptions& options);
Picture perm_picture(std::span<const Record> records, const PlotOptions& options);

}  // namespace switchyard
