#include "report/draw.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "report/plot.h"
#include "report/report_testing.h"
#include "report/script.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

const Look kLook = {ImageFormat::svg, Width::wide, {"#010203", "", "#d5d9de"}};

/// What would break out of a string, a label or an SVG.
constexpr const char* kHostile =
    "<script>alert(1)</script> 'quo\"te' `date` \\n %s {/Bold x} & \n$x";

Picture hostile_picture() {
  std::vector<Record> records;
  for (const int tokens : {64, 256, 1024}) {
    records.push_back(test::layer_record(kHostile, tokens, tokens));
    records.back()["strategy"] = kHostile;
    records.push_back(test::layer_record("grouped", tokens, tokens / 2.0));
  }
  Picture picture = picture_of(PlotKind::throughput, records, {});
  picture.title = kHostile;
  const Picture bars = picture_of(PlotKind::latency, records, {});
  picture.panels.insert(picture.panels.end(), bars.panels.begin(), bars.panels.end());
  return picture;
}

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Script, TextStaysInItsQuotes) {
  const std::string script = gnuplot_script(hostile_picture(), kLook);
  // With the doubled quotes of text taken for what they are, quotes of every line are in pairs and
  // no backquote, which gnuplot would execute, is outside of them.
  std::size_t begin = 0;
  while (begin < script.size()) {
    const std::size_t end = script.find('\n', begin);
    bool is_inside = false;
    for (std::size_t i = begin; i < end; ++i) {
      if (script[i] == '\'') is_inside = !is_inside;
      EXPECT_TRUE(is_inside || script[i] != '`');
    }
    EXPECT_FALSE(is_inside) << script.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(Script, EveryWidthAndPanelHasAPlot) {
  const Picture picture = hostile_picture();
  for (const Width width : {Width::wide, Width::narrow}) {
    const std::string script = gnuplot_script(picture, {ImageFormat::png, width, kLook.colours});
    EXPECT_EQ(count(script, "\nplot "), picture.panels.size());
  }
  EXPECT_THROW(gnuplot_script({}, kLook), Error);
}

TEST(Draw, SvgStandsAloneAndFollowsItsReader) {
  if (!test::has_gnuplot()) GTEST_SKIP() << "no gnuplot";
  const std::string svg = image_of(hostile_picture(), ImageFormat::svg);
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_NE(svg.find("&lt;script"), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(svg.find("rgb(1,2,3)"), std::string::npos);
  EXPECT_EQ(svg.find("#010203"), std::string::npos);
  EXPECT_EQ(svg.find("black"), std::string::npos) << "could not be seen on a dark page";
  const std::string dark = image_of(hostile_picture(), ImageFormat::svg, Theme::dark);
  EXPECT_EQ(dark.find("prefers-color-scheme"), std::string::npos);
}

TEST(Draw, PngIsOne) {
  if (!test::has_gnuplot()) GTEST_SKIP() << "no gnuplot";
  for (const Theme theme : {Theme::light, Theme::dark}) {
    EXPECT_TRUE(image_of(hostile_picture(), ImageFormat::png, theme).starts_with("\x89PNG"));
  }
}

TEST(Draw, SuffixSaysTheFormat) {
  EXPECT_EQ(image_format_of_path("a/b.png"), ImageFormat::png);
  EXPECT_EQ(image_format_of_path("a.svg"), ImageFormat::svg);
  EXPECT_THROW(image_format_of_path("a.jpg"), Error);
  EXPECT_THROW(theme_from_name("lite"), Error);
}

TEST(Draw, AbsentGnuplotIsSaidWithTheRemedy) {
  const std::string path = std::getenv("PATH");
  setenv("PATH", "/nonexistent", 1);
  try {
    image_of(hostile_picture(), ImageFormat::svg);
    ADD_FAILURE() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unavailable);
    EXPECT_NE(std::string(error.what()).find("apt install gnuplot-nox"), std::string::npos);
  }
  setenv("PATH", path.c_str(), 1);
}

}  // namespace
}  // namespace switchyard
