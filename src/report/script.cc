#include "report/script.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "report/fields.h"

namespace switchyard {
namespace {

/// After Okabe and Ito (2008), orange and sky blue darkened: each has a contrast of 3 or more to
/// white and to the dark background. Neighbours differ in lightness and hue for every kind of
/// colour vision, and points differ in shape.
constexpr std::array<std::string_view, 8> kColours = {"#0072b2", "#d55e00", "#009e73", "#b5549a",
                                                      "#a87b00", "#3b8fc4", "#7a7f87", "#8c6bd1"};
constexpr std::array<int, 8> kPointTypes = {7, 5, 9, 13, 11, 6, 4, 8};
constexpr std::array<int, 4> kDashes = {1, 2, 4, 5};  // of a second round of colours, and of guides

/// Pixels at a scale of 1.
struct Measures {
  double width, font, title_font, line, bar, chart, margin;
};
constexpr Measures kWide = {860, 13, 17, 18, 24, 330, 14};
constexpr Measures kNarrow = {360, 11, 13, 15, 24, 260, 8};
constexpr double kPngScale = 2;
constexpr double kCharacter = 0.56;  // mean width of a character, in font sizes

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : clean_text(text)) {
    out += c;
    if (c == '\'') out += c;
  }
  return out + "'";
}

/// Labels of tics are formats.
std::string tic_label(std::string_view text) {
  std::string out = in_quotes(text);
  for (auto at = out.find('%'); at != std::string::npos; at = out.find('%', at + 2)) {
    out.insert(at, 1, '%');
  }
  return out;
}

std::size_t num_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

/// Lines of at most `most` characters, cut at blanks.
std::vector<std::string> lines_of(std::string_view text, std::size_t most) {
  std::vector<std::string> lines;
  std::string line;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && num_characters(line) + 1 + num_characters(word) > most) {
      lines.push_back(line);
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
  }
  if (!line.empty()) lines.push_back(line);
  return lines;
}

std::string shortened(std::string_view text, std::size_t most) {
  if (num_characters(text) <= most) return std::string(text);
  std::string out;
  for (std::size_t i = 0, count = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80;
    if (begins && ++count == most) break;
    out += text[i];
  }
  return out + "\u2026";
}

class Script {
 public:
  Script(const Picture& picture, const Look& look)
      : picture_(picture),
        look_(look),
        m_(look.width == Width::wide ? kWide : kNarrow),
        scale_(look.format == ImageFormat::png ? kPngScale : 1) {}

  std::string text();

 private:
  double header_height() const;
  double legend_height(const Panel& panel) const;
  double panel_height(const Panel& panel) const;
  std::size_t characters_in(double pixels, double font) const {
    return static_cast<std::size_t>(std::max(8.0, pixels / (font * kCharacter)));
  }
  std::vector<std::string> legend_of(const Panel& panel) const;
  bool repeats_legend(const Panel& panel) const {
    return &panel != &picture_.panels[0] && legend_of(panel) == legend_of(picture_.panels[0]);
  }
  std::vector<std::string> subtitle_lines() const {
    return lines_of(picture_.subtitle, characters_in(m_.width - 2 * m_.margin, m_.font));
  }
  std::vector<std::string> title_lines() const {
    return lines_of(picture_.title, characters_in(m_.width - 2 * m_.margin, m_.title_font));
  }

  void add_terminal(double height);
  void add_heading(double height);
  void add_axis(char name, const Axis& axis, double pixels);
  void add_tics(char name, const Axis& axis, double pixels);
  void add(const Chart& chart);
  void add(const Bars& bars);
  void add(const Heat& heat);

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  const Picture& picture_;
  const Look& look_;
  const Measures& m_;
  double scale_;
  std::string out_;
};

std::string Script::text() {
  double height = header_height();
  for (const Panel& panel : picture_.panels) height += panel_height(panel);
  add_terminal(height);
  add_heading(height);
  double top = header_height();
  bool is_first = true;
  for (const Panel& panel : picture_.panels) {
    const double own = panel_height(panel);
    line("set size 1,{:.5f}", own / height);
    line("set origin 0,{:.5f}", 1 - (top + own) / height);
    line("unset title");
    if (!panel.title.empty()) {
      line("set title {} noenhanced offset 0,-0.4 textcolor rgb '{}'",
           in_quotes(shortened(panel.title, characters_in(m_.width * 0.8, m_.font))),
           look_.colours.text);
    }
    const bool has_legend = !legend_of(panel).empty() && !repeats_legend(panel);
    line("{}", has_legend ? "set key on" : "set key off");
    std::visit([&](const auto& content) { add(content); }, panel.content);
    if (is_first) line("unset label");
    is_first = false;
    top += own;
  }
  line("unset multiplot");
  return std::move(out_);
}

double Script::header_height() const {
  return m_.margin + static_cast<double>(title_lines().size()) * m_.title_font * 1.35 +
         static_cast<double>(subtitle_lines().size()) * m_.line + m_.margin * 0.4;
}

std::vector<std::string> Script::legend_of(const Panel& panel) const {
  std::vector<std::string> names;
  if (const auto* chart = std::get_if<Chart>(&panel.content)) {
    for (const Series& series : chart->series) {
      if (!series.name.empty()) names.push_back(series.name);
    }
  } else if (const auto* bars = std::get_if<Bars>(&panel.content); bars && bars->parts.size() > 1) {
    for (const Part& part : bars->parts) names.push_back(part.name);
  }
  return names;
}

double Script::legend_height(const Panel& panel) const {
  std::size_t longest = 0;
  const auto names = legend_of(panel);
  if (repeats_legend(panel)) return 0;
  for (const std::string& name : names) longest = std::max(longest, num_characters(name));
  const double entry = (static_cast<double>(longest) + 7) * m_.font * kCharacter;
  const double columns = std::max(1.0, std::floor((m_.width - 2 * m_.margin) / entry));
  return std::ceil(static_cast<double>(names.size()) / columns) * m_.line;
}

double Script::panel_height(const Panel& panel) const {
  double height = legend_height(panel) + (panel.title.empty() ? 0 : m_.line);
  if (const auto* bars = std::get_if<Bars>(&panel.content)) {
    return height + static_cast<double>(bars->bars.size()) * m_.bar + 5 * m_.line;
  }
  return height + m_.chart;
}

void Script::add_terminal(double height) {
  const double font = m_.font * scale_;
  line("set encoding utf8");
  if (look_.format == ImageFormat::svg) {
    line("set terminal svg size {:.0f},{:.0f} dynamic noenhanced font 'sans-serif,{:.0f}'",
         m_.width, height, font);
  } else {
    // A point of this terminal's fonts is 4/3 of a pixel.
    line(
        "set terminal pngcairo size {:.0f},{:.0f} noenhanced font 'sans,{:.1f}' linewidth {} "
        "pointscale {} background '{}'",
        m_.width * scale_, height * scale_, font * 0.75, scale_, scale_, look_.colours.background);
  }
  const std::string_view text = look_.colours.text, grid = look_.colours.grid;
  line("set border 3 lw 1 lc rgb '{}'", text);
  line("set tics nomirror out scale 0.6,0.3 textcolor rgb '{}'", text);
  line("set grid back lt 1 lw 0.6 dt 1 lc rgb '{}'", grid);
  line(
      "set key outside bottom center horizontal Left reverse noenhanced textcolor rgb '{}' "
      "samplen 2 spacing 1.1",
      text);
  line("set style fill solid 1 noborder");
  const bool has_bars =
      std::any_of(picture_.panels.begin(), picture_.panels.end(),
                  [](auto& panel) { return std::holds_alternative<Bars>(panel.content); });
  if (picture_.panels.size() > 1 && !has_bars) line("set lmargin 10");
}

void Script::add_heading(double height) {
  line("set multiplot");
  const double x = m_.margin / m_.width;
  double y = m_.margin + m_.title_font * 0.6;
  int number = 0;
  const auto add_label = [&](const std::string& text, double font) {
    line(
        "set label {} {} at screen {:.5f},{:.5f} left noenhanced font ',{:.1f}' textcolor rgb '{}'",
        ++number, in_quotes(text), x, 1 - y / height,
        look_.format == ImageFormat::svg ? font : font * scale_ * 0.75, look_.colours.text);
  };
  for (const std::string& text : title_lines()) {
    add_label(text, m_.title_font);
    y += m_.title_font * 1.35;
  }
  for (const std::string& text : subtitle_lines()) {
    add_label(text, m_.font);
    y += m_.line;
  }
}

void Script::add_tics(char name, const Axis& axis, double pixels) {
  if (axis.tics.empty()) {
    line("set {}tics autofreq format '%g'", name);
    return;
  }
  std::size_t longest = 0;
  for (const double at : axis.tics) longest = std::max(longest, short_number(at).size());
  const double needed = (static_cast<double>(longest) + 1.5) * m_.font * kCharacter;
  // Labels that would touch are thinned out, the same number between any two.
  const auto step = static_cast<std::size_t>(
      std::max(1.0, std::ceil(needed * static_cast<double>(axis.tics.size()) / pixels)));
  std::string list;
  for (std::size_t i = 0; i < axis.tics.size(); ++i) {
    const std::string label = i % step == 0 ? short_number(axis.tics[i]) : "";
    list += fmt::format("{}'{}' {:.17g}", list.empty() ? "" : ", ", label, axis.tics[i]);
  }
  line("set {}tics ({})", name, list);
}

/// 1, 2, 5, 10, ... where decades alone would be too few; nothing where they are enough.
std::vector<double> decade_tics(double least, double most) {
  std::vector<double> tics;
  if (!(least > 0) || most > 300 * least) return tics;
  for (double decade = std::pow(10, std::floor(std::log10(least))); decade <= most; decade *= 10) {
    for (const double step : {1, 2, 5}) {
      if (step * decade >= 0.7 * least && step * decade <= 1.4 * most)
        tics.push_back(step * decade);
    }
  }
  return tics;
}

void Script::add_axis(char name, const Axis& axis, double pixels) {
  line("unset logscale {}", name);
  if (axis.scale != Scale::linear) {
    line("set logscale {} {}", name, axis.scale == Scale::log2 ? 2 : 10);
  }
  // An empty second line keeps the legend off the label.
  line("set {}label {}{} noenhanced textcolor rgb '{}'", name, in_quotes(axis.label),
       name == 'x' ? R"(."\n" offset 0,0.4)" : "", look_.colours.text);
  line("set {}range [{}:*]", name, axis.from_zero ? "0" : "*");
  add_tics(name, axis, pixels);
}

void Script::add(const Chart& chart) {
  double first = INFINITY, last = -INFINITY, lowest = INFINITY, highest = -INFINITY;
  bool has_columns = false;
  for (const Series& series : chart.series) {
    has_columns |= series.mark == Mark::columns;
    for (const Point& point : series.points) {
      first = std::min(first, point.x);
      last = std::max(last, point.x);
      lowest = std::min(lowest, point.y);
      highest = std::max(highest, point.y);
    }
  }
  Axis x = chart.x, y = chart.y;
  if (x.scale == Scale::log10) x.tics = decade_tics(first, last);
  if (y.scale == Scale::log10) y.tics = decade_tics(lowest, highest);
  add_axis('x', x, m_.width * 0.8);
  add_axis('y', y, m_.chart * 4);
  // Points on the frame would be cut.
  if (chart.x.scale != Scale::linear) {
    const double room = std::pow(last / first, 0.03) * 1.0001;
    line("set xrange [{:.17g}:{:.17g}]", first / room, last * room);
  } else if (!has_columns && last > first) {
    line("set xrange [{:.17g}:{:.17g}]", first - 0.03 * (last - first),
         last + 0.03 * (last - first));
  } else {
    line("set xrange [{:.17g}:{:.17g}]", first, last);
  }
  line("set boxwidth 0.85");

  std::string plots;
  std::size_t number = 0, num_guides = 0;
  for (const Series& series : chart.series) {
    line("$d{} << EOD", number);
    bool has_intervals = false;
    for (const Point& point : series.points) {
      const Interval range = point.interval.value_or(Interval{point.y, point.y});
      has_intervals |= point.interval.has_value();
      line("{:.10g} {:.10g} {:.10g} {:.10g}", point.x, point.y, range.low, range.high);
    }
    line("EOD");
    const auto colour = kColours[(number - num_guides) % kColours.size()];
    const auto round = (number - num_guides) / kColours.size();
    const auto point_type = kPointTypes[(number - num_guides) % kPointTypes.size()];
    const std::string title =
        series.name.empty() ? "notitle" : fmt::format("title {}", in_quotes(series.name));
    std::string with;
    switch (series.mark) {
      case Mark::columns: with = fmt::format("using 1:2 with boxes lc rgb '{}'", colour); break;
      case Mark::guide:
        with = fmt::format("using 1:2 with lines lw 1.4 dt {} lc rgb '{}'",
                           kDashes[1 + num_guides % 3], look_.colours.text);
        ++num_guides;
        break;
      case Mark::points:
      case Mark::line: {
        const bool is_line = series.mark == Mark::line;
        with = fmt::format("using {} with {} lw 1.8 dt {} pt {} ps 0.7 lc rgb '{}'",
                           has_intervals ? "1:2:3:4" : "1:2",
                           has_intervals ? (is_line ? "yerrorlines" : "yerrorbars")
                                         : (is_line ? "linespoints" : "points"),
                           is_line ? kDashes[round % kDashes.size()] : 1, point_type, colour);
        break;
      }
    }
    plots += fmt::format("{}$d{} {} {}", plots.empty() ? "" : ", ", number, with, title);
    ++number;
  }
  line("plot {}", plots);
}

void Script::add(const Bars& bars) {
  const std::size_t most =
      characters_in(m_.width * (look_.width == Width::wide ? 0.4 : 0.45), m_.font);
  const auto count = static_cast<double>(bars.bars.size());
  add_axis('x', bars.axis, m_.width * 0.6);
  line("unset logscale y");
  line("unset ylabel");
  line("set yrange [-0.6:{:.1f}]", count - 0.4);
  std::string labels;
  for (std::size_t i = 0; i < bars.bars.size(); ++i) {
    labels += fmt::format("{}{} {:.0f}", labels.empty() ? "" : ", ",
                          tic_label(shortened(bars.bars[i].label, most)),
                          count - 1 - static_cast<double>(i));
  }
  line("set ytics ({})", labels);

  std::string plots;
  for (std::size_t p = 0; p < bars.parts.size(); ++p) {
    line("$b{} << EOD", p);
    for (std::size_t i = 0; i < bars.bars.size(); ++i) {
      double begin = 0;
      for (std::size_t before = 0; before < p; ++before) begin += bars.bars[i].parts[before];
      const double end = begin + bars.bars[i].parts[p], y = count - 1 - static_cast<double>(i);
      line("{:.10g} {} {:.10g} {:.10g} {:.2f} {:.2f}", end, y, begin, end, y - 0.36, y + 0.36);
    }
    line("EOD");
    plots += fmt::format(
        "{}$b{} using 1:2:3:4:5:6 with boxxyerror lc rgb '{}' {}", plots.empty() ? "" : ", ", p,
        kColours[static_cast<std::size_t>(bars.parts[p].colour) % kColours.size()],
        bars.parts.size() > 1 ? fmt::format("title {}", in_quotes(bars.parts[p].name)) : "notitle");
  }
  line("$ends << EOD");
  bool has_ends = false;
  for (std::size_t i = 0; i < bars.bars.size(); ++i) {
    const auto& end = bars.bars[i].end;
    if (!end || !end->interval) continue;
    has_ends = true;
    line("{:.10g} {:.0f} {:.10g} {:.10g}", end->y, count - 1 - static_cast<double>(i),
         end->interval->low, end->interval->high);
  }
  line("EOD");
  if (has_ends) {
    plots += fmt::format(", $ends using 1:2:3:4 with xerrorbars pt -1 lw 1.2 lc rgb '{}' notitle",
                         look_.colours.text);
  }
  line("plot {}", plots);
}

void Script::add(const Heat& heat) {
  line("unset logscale xy");
  line("set xlabel {} noenhanced textcolor rgb '{}'", in_quotes(heat.x_label), look_.colours.text);
  line("set ylabel {} noenhanced textcolor rgb '{}'", in_quotes(heat.y_label), look_.colours.text);
  line("set xtics autofreq format '%g'");
  line("set ytics autofreq format '%g'");
  line("set xrange [-0.5:{:.1f}]", heat.columns - 0.5);
  line("set yrange [{:.10g}:{:.10g}]", (heat.rows - 0.5) * heat.rows_per_cell,
       -0.5 * heat.rows_per_cell);
  line("unset grid");
  // Dark blue to yellow in steps of equal lightness (cividis: Nunez, Anderton and Renslow 2018).
  line(
      "set palette defined (0 '#00224e', 0.25 '#434e6c', 0.5 '#7d7c78', 0.75 '#bcae6c', "
      "1 '#fee838')");
  line("set cblabel {} noenhanced textcolor rgb '{}'", in_quotes(heat.value_label),
       look_.colours.text);
  line("set cbrange [0:*]");
  line("$h << EOD");
  for (int r = 0; r < heat.rows; ++r) {
    std::string row;
    for (int c = 0; c < heat.columns; ++c) {
      row += fmt::format("{:.4g} ", heat.values[static_cast<std::size_t>(r * heat.columns + c)]);
    }
    line("{}", row);
  }
  line("EOD");
  line("plot $h matrix using 1:($2*{:.10g}):3 with image notitle", heat.rows_per_cell);
}

}  // namespace

std::string gnuplot_script(const Picture& picture, const Look& look) {
  require(!picture.panels.empty(), "picture has no panels: nothing to draw");
  return Script(picture, look).text();
}

}  // namespace switchyard
