#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bench/statistics.h"

namespace switchyard {

/// A picture as data: what is drawn and what it says, not how it looks. Text may hold anything.

constexpr std::int64_t kNoRecord = -1;

struct Point {
  double x = 0;
  double y = 0;
  std::optional<Interval> interval = {};  ///< 95% interval of y
  std::int64_t record = kNoRecord;        ///< index of the record it was taken from
};

enum class Mark {
  line,     ///< points, joined
  points,   ///< points
  columns,  ///< a bar from zero at each x
  guide,    ///< a thin dashed line, for limits and references
};

struct Series {
  std::string name = {};  ///< in the legend; empty is left out of it
  Mark mark = Mark::line;
  std::vector<Point> points = {};  ///< ascending x
};

enum class Scale { linear, log2, log10 };

struct Axis {
  std::string label = {};  ///< with its unit
  Scale scale = Scale::linear;
  std::vector<double> tics = {};  ///< where labels stand; empty: anywhere
  bool from_zero = false;
};

/// x against y.
struct Chart {
  Axis x = {}, y = {};
  std::vector<Series> series = {};
};

/// One horizontal bar each, cut into parts.
struct Bar {
  std::string label = {};
  std::vector<double> parts = {};  ///< lengths, one for each name of Bars::parts
  std::optional<Point> end = {};  ///< the whole with its interval (x unused); a mark is drawn there
  std::int64_t record = kNoRecord;
};

struct Part {
  std::string name = {};
  int colour = 0;  ///< the same thing has the same colour in every picture
};

struct Bars {
  Axis axis = {};                ///< of the lengths
  std::vector<Part> parts = {};  ///< without a legend when there is only one
  std::vector<Bar> bars = {};    ///< from the top
};

/// values[r * columns + c], drawn with row 0 on top.
struct Heat {
  std::string x_label = {}, y_label = {}, value_label = {};
  int rows = 0, columns = 0;
  double rows_per_cell = 1;  ///< what one row stands for on the y axis
  std::vector<double> values = {};
};

struct Panel {
  std::string title = {};  ///< empty when the picture's says enough
  std::variant<Chart, Bars, Heat> content = {};
};

/// Panels from top to bottom under one heading.
struct Picture {
  std::string title = {};
  std::string subtitle = {};  ///< what all of it has in common
  std::vector<Panel> panels = {};
};

}  // namespace switchyard
