#include "report/report.h"

#include <gtest/gtest.h>

#include "report/gallery.h"
#include "report/report_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using test::failed_record;
using test::layer_record;

constexpr const char* kHostile = "</script><script>x</script>\"'><img src=x>\xff";

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Report, ShowsEveryRecordAndItsCommand) {
  const std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("grouped", 64, 1)};
  const std::string html = report_of(records, {.command = "switchyard report", .pictures = false});
  for (const char* part : {"id=\"r1\"", "id=\"r2\"", "href=\"#r2\"", "switchyard bench layer",
                           "&quot;impl&quot;: &quot;grouped&quot;", "Made with"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
}

TEST(Report, EveryStringFieldIsEscaped) {
  Record record = layer_record("loop", 64, 2), failed = failed_record("loop", 128, kHostile);
  for (const RecordField& field : record_fields()) {
    if (field.type != "string" || field.name == "schema") continue;
    record[std::string(field.name)] = kHostile;
    failed[std::string(field.name)] = kHostile;
  }
  const std::string html =
      report_of(std::vector<Record>{record, failed}, {.command = kHostile, .pictures = false});
  EXPECT_EQ(count(html, "<script"), 1u);
  EXPECT_EQ(count(html, "</script"), 1u);
  EXPECT_EQ(html.find("<img src=x"), std::string::npos);
  EXPECT_EQ(html.find('\xff'), std::string::npos);
}

TEST(Report, SaysWhereEnvironmentsDiffer) {
  std::vector<Record> records = {layer_record("loop", 64, 2), layer_record("loop", 128, 2)};
  records[1]["cpu"] = "another CPU";
  const std::string html = report_of(records, {.command = {}, .pictures = false});
  EXPECT_NE(html.find("2 environments, which differ in <strong>cpu</strong>"), std::string::npos);
}

TEST(Report, ShowsFailuresWithTheirError) {
  const std::vector<Record> records = {failed_record("loop", 64, "needs 4 TiB")};
  const std::string html = report_of(records, {});
  EXPECT_NE(html.find("failed: needs 4 TiB"), std::string::npos);
  EXPECT_EQ(html.find("<figure>"), std::string::npos) << "there is nothing to draw";
}

TEST(Report, KeepsLongSamplesShort) {
  std::vector<Record> records = {layer_record("loop", 64, 2)};
  records[0]["samples_ms"] = std::vector<double>(5000, 1.4375);
  const std::string html = report_of(records, {.command = {}, .pictures = false});
  EXPECT_EQ(count(html, "1.4375"), 40u);
  EXPECT_NE(html.find("the first 40 of 5000"), std::string::npos);
}

TEST(Report, OfNothingIsRefused) { EXPECT_THROW(report_of({}, {}), Error); }

TEST(Gallery, SplitsWhatIsTooMuchForOnePicture) {
  std::vector<Record> records;
  for (const char* routing : {"uniform", "zipf:1"}) {
    for (int i = 0; i < 10; ++i) {
      for (const int tokens : {64, 256}) {
        records.push_back(layer_record("impl" + std::to_string(i), tokens, 1 + i));
        records.back()["routing"] = routing;
      }
    }
  }
  const Gallery gallery = gallery_of(records, by_target(records)[0]);
  std::size_t num_throughput = 0;
  for (const Picture& picture : gallery.pictures) {
    num_throughput += picture.title == "layer: throughput";
    for (const Panel& panel : picture.panels) {
      const auto* chart = std::get_if<Chart>(&panel.content);
      if (chart == nullptr || picture.title != "layer: throughput") continue;
      const Point& point = chart->series[0].points[0];
      const Record& record = records[static_cast<std::size_t>(point.record)];
      EXPECT_EQ(record["tokens"], point.x) << "points refer to the whole list";
      EXPECT_NE(picture.subtitle.find(record["routing"].get<std::string>()), std::string::npos);
    }
  }
  EXPECT_EQ(num_throughput, 2u);
}

TEST(Gallery, OfFailuresIsEmpty) {
  const std::vector<Record> records = {failed_record("loop", 64, "no")};
  const Gallery gallery = gallery_of(records, by_target(records)[0]);
  EXPECT_TRUE(gallery.pictures.empty());
  EXPECT_TRUE(gallery.notes.empty());
}

}  // namespace
}  // namespace switchyard
