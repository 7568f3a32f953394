#include "report/draw.h"

#include "base/check.h"
#include "base/replace_file.h"
#include "report/escape.h"
#include "report/gnuplot.h"
#include "report/script.h"

namespace switchyard {
namespace {

constexpr std::array<Named<Theme>, 3> kThemeNames = {
    {{Theme::light, "light"}, {Theme::dark, "dark"}, {Theme::automatic, "auto"}}};

constexpr Colours kLight = {"#1f2328", "#ffffff", "#d5d9de"};
constexpr Colours kDark = {"#e4e7eb", "#16191d", "#3a4048"};

/// Stands for the colour of text, which an SVG takes from its style sheet: no other colour is this.
constexpr std::string_view kTextMark = "#010203";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

std::string rules(const Colours& colours) {
  return fmt::format("svg{{color:{0};background:{1}}}.halo{{color:{1}}}.gridline{{stroke:{2}}}",
                     colours.text, colours.background, colours.grid);
}

std::string style_sheet(Theme theme) {
  const Colours& first = theme == Theme::dark ? kDark : kLight;
  const std::string other =
      theme == Theme::automatic
          ? fmt::format("@media (prefers-color-scheme:dark){{{}}}", rules(kDark))
          : "";
  return fmt::format("<style>{}{}image{{image-rendering:pixelated}}</style>", rules(first), other);
}

/// Text, frame and background of gnuplot's drawing follow a style sheet, its names become ours.
std::string styled(std::string svg, const Picture& picture, Theme theme) {
  replace_all(svg, " color=\"black\"", "");
  replace_all(svg, "rgb(  1,   2,   3)", "currentColor");
  replace_all(svg, "rgb(1,2,3)", "currentColor");
  replace_all(svg, kTextMark, "currentColor");
  replace_all(svg, "stroke=\"black\"", "stroke=\"currentColor\"");
  replace_all(svg, "stroke='black'", "stroke='currentColor'");
  replace_all(svg, "color='white'", "class='halo'");  // around points with error bars
  constexpr std::string_view kTitle = "<title>Gnuplot</title>";
  if (const auto at = svg.find(kTitle); at != std::string::npos) {
    svg.replace(at, kTitle.size(),
                fmt::format("<title>{}</title>{}", escaped(picture.title), style_sheet(theme)));
  }
  // Programs that show titles as tooltips would say "gnuplot_plot_1".
  constexpr std::string_view kBegin = "<title>gnuplot_plot_", kEnd = "</title>";
  for (auto at = svg.find(kBegin); at != std::string::npos; at = svg.find(kBegin, at)) {
    const auto end = svg.find(kEnd, at);
    if (end == std::string::npos) break;
    svg.erase(at, end + kEnd.size() - at);
  }
  return svg;
}

}  // namespace

Theme theme_from_name(std::string_view name) { return value_in(kThemeNames, "theme", name); }

ImageFormat image_format_of_path(std::string_view path) {
  if (path.ends_with(".png")) return ImageFormat::png;
  require(path.ends_with(".svg"), "cannot draw to {}: expected a name that ends in .png or .svg",
          path);
  return ImageFormat::svg;
}

std::string image_of(const Picture& picture, ImageFormat format, Theme theme, Width width) {
  if (format == ImageFormat::png) {
    const Colours& colours = theme == Theme::dark ? kDark : kLight;
    return run_gnuplot(gnuplot_script(picture, {format, width, colours}));
  }
  const Colours marked = {kTextMark, "", kLight.grid};
  return styled(run_gnuplot(gnuplot_script(picture, {format, width, marked})), picture, theme);
}

void require_gnuplot() { run_gnuplot("set print '-'\nprint 'here'\n"); }

void draw(const Picture& picture, const std::string& path, Theme theme) {
  const ImageFormat format = image_format_of_path(path);
  replace_file(path, image_of(picture, format, theme));
}

}  // namespace switchyard
