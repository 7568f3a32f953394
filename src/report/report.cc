#include "report/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/check.h"
#include "report/draw.h"
#include "report/escape.h"
#include "report/fields.h"
#include "report/gallery.h"
#include "report/page.h"
#include "report/reading.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostSamples = 40;

struct Column {
  std::string_view field;
  std::string_view title;
  double factor = 1;
};

constexpr Column kMeasures[] = {
    {"median_ms", "median, ms"},
    {"tokens_per_s", "tokens/s"},
    {"tflops", "Tflop/s"},
    {"bw_GiBps_strict", "GiB/s"},
    {"limit_ms", "limit, ms"},
    {"fraction_of_limit", "of limit, %", 100},
    {"routing_share", "not experts, %", 100},
    {"load_max_over_mean", "max/mean load"},
    {"drop_rate", "dropped, %", 100},
    {"padding_rows", "padding rows"},
    {"peak_rss_bytes", "peak memory, MiB", 1.0 / (1 << 20)},
    {"check_rel_err", "rel. error"},
};

constexpr std::string_view kEnvironment[] = {"host",    "cpu",     "gpu",       "threads", "isa",
                                             "version", "git_sha", "git_dirty", "compiler"};

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t k) {
      return i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u;
    };
    const std::uint32_t word = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k <= bytes.size() ? kDigits[word >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

std::string data_url(const std::string& svg) { return "data:image/svg+xml;base64," + base64(svg); }

/// Digits enough to compare, few enough to read.
std::string shown(double value) {
  const double size = std::abs(value);
  if (size != 0 && size < 1e-3) return fmt::format("{:.2e}", value);
  if (size >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

std::string link_to(std::int64_t record, const std::string& text) {
  return fmt::format("<a href=\"#r{}\">{}</a>", record + 1, escaped(text));
}

class Page {
 public:
  Page(std::span<const Record> records, const ReportOptions& options)
      : records_(records), options_(options), targets_(by_target(records)) {}

  std::string html();

 private:
  const Record& at(std::int64_t i) const { return records_[static_cast<std::size_t>(i)]; }

  void add_head();
  void add_summary();
  void add_environments();
  void add_target(const TargetRecords& target, std::size_t number);
  void add_table(const TargetRecords& target);
  void add_picture(const Picture& picture);
  void add_points(const Picture& picture);
  void add_records();
  void add_record(std::int64_t i);
  void add_sentences(const std::vector<Sentence>& sentences);

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  std::span<const Record> records_;
  const ReportOptions& options_;
  std::vector<TargetRecords> targets_;
  std::string out_;
};

std::string Page::html() {
  add_head();
  add_summary();
  add_environments();
  for (std::size_t t = 0; t < targets_.size(); ++t) add_target(targets_[t], t);
  add_records();
  if (!options_.command.empty()) {
    line("<footer class=\"soft\"><p>Made with <code>{}</code></p></footer>",
         escaped(options_.command));
  }
  line("<script>{}</script>\n</body>\n</html>", page_script());
  return std::move(out_);
}

void Page::add_head() {
  line("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
  line("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
  line("<meta name=\"color-scheme\" content=\"light dark\">");
  // Nothing is fetched, whatever a record may hold.
  line(
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">");
  line("<link rel=\"icon\" href=\"data:,\">");
  line("<title>Switchyard report</title>\n<style>{}</style>\n</head>\n<body>", page_style());
}

void Page::add_sentences(const std::vector<Sentence>& sentences) {
  line("<ul class=\"reading\">");
  for (const Sentence& sentence : sentences) {
    std::string text;
    for (const Phrase& phrase : sentence) {
      text +=
          phrase.record == kNoRecord ? escaped(phrase.text) : link_to(phrase.record, phrase.text);
    }
    line("<li>{}</li>", text);
  }
  line("</ul>");
}

void Page::add_summary() {
  std::set<std::string> days;
  std::size_t num_ok = 0, num_bad = 0;
  for (const Record& record : records_) {
    num_ok += is_ok(record);
    num_bad += text_of(record, "error_code") == "check_failed";
    const std::string time = text_of(record, "timestamp");
    if (time.size() >= 10) days.insert(time.substr(0, 10));
  }
  line("<header>\n<h1>Switchyard report</h1>");
  std::string when;
  if (!days.empty()) when = *days.begin();
  if (days.size() > 1) when += " to " + *days.rbegin();
  line("<p class=\"soft\">{} records{}</p>", records_.size(),
       when.empty() ? "" : escaped(", measured " + when));
  std::string links;
  for (std::size_t t = 0; t < targets_.size(); ++t) {
    links += fmt::format("<a href=\"#t{}\">{}</a> ", t + 1, escaped(targets_[t].bench));
  }
  line("<nav>{}<a href=\"#records\">records</a></nav>\n</header>", links);
  line("<main>\n<h2>In short</h2>");
  const std::size_t num_failed = records_.size() - num_ok;
  line("<p>{}</p>",
       num_failed == 0 ? fmt::format("All {} outputs passed their check.", records_.size())
                       : fmt::format("{} of {} cells were measured and passed their check; <span "
                                     "class=\"bad\">{} failed</span>, {} of them the check itself.",
                                     num_ok, records_.size(), num_failed, num_bad));
  for (std::size_t t = 0; t < targets_.size(); ++t) {
    line("<h3><a href=\"#t{}\">{}</a></h3>", t + 1, escaped(targets_[t].bench));
    add_sentences(reading_of(records_, targets_[t]));
  }
}

void Page::add_environments() {
  std::map<std::vector<std::string>, std::vector<std::int64_t>> of_values;
  for (std::size_t i = 0; i < records_.size(); ++i) {
    std::vector<std::string> values;
    for (const std::string_view field : kEnvironment) {
      // The ISA is the implementation's as much as the machine's.
      values.push_back(field == "isa" ? "" : text_of(records_[i], field));
    }
    of_values[values].push_back(static_cast<std::int64_t>(i));
  }
  line("<h2>Where it was measured</h2>");
  if (of_values.size() > 1) {
    std::string differing;
    for (std::size_t f = 0; f < std::size(kEnvironment); ++f) {
      std::set<std::string> distinct;
      for (const auto& [values, indices] : of_values) distinct.insert(values[f]);
      if (distinct.size() > 1) {
        differing += fmt::format("{}{}", differing.empty() ? "" : ", ", kEnvironment[f]);
      }
    }
    line(
        "<p>{} environments, which differ in <strong>{}</strong>: times of different ones are "
        "not compared.</p>",
        of_values.size(), differing);
  }
  line("<div class=\"cards\">");
  for (const auto& [values, indices] : of_values) {
    line("<div class=\"card\"><dl>");
    for (std::size_t f = 0; f < values.size(); ++f) {
      if (!values[f].empty()) line("<dt>{}</dt><dd>{}</dd>", kEnvironment[f], escaped(values[f]));
    }
    std::set<std::string> isas;
    for (const std::int64_t i : indices) isas.insert(text_of(at(i), "isa"));
    isas.erase("");
    line("<dt>isa</dt><dd>{}</dd>", escaped(fmt::format("{}", fmt::join(isas, ", "))));
    line("<dt>records</dt><dd>{}, from {}</dd>\n</dl></div>", indices.size(),
         link_to(indices[0], fmt::format("#{}", indices[0] + 1)));
  }
  line("</div>");
}

void Page::add_target(const TargetRecords& target, std::size_t number) {
  line("<section id=\"t{}\">\n<h2>{}</h2>", number + 1, escaped(target.bench));
  if (options_.pictures) {
    const Gallery gallery = gallery_of(records_, target);
    for (const Picture& picture : gallery.pictures) add_picture(picture);
    for (const std::string& note : gallery.notes) line("<p class=\"soft\">{}</p>", escaped(note));
  } else {
    line(
        "<p class=\"soft\">No pictures: gnuplot was not installed where this report was made.</p>");
  }
  add_table(target);
  line("</section>");
}

void Page::add_picture(const Picture& picture) {
  const std::string wide = image_of(picture, ImageFormat::svg, Theme::automatic, Width::wide);
  const std::string narrow = image_of(picture, ImageFormat::svg, Theme::automatic, Width::narrow);
  line("<figure>\n<picture><source media=\"(max-width: 640px)\" srcset=\"{}\">", data_url(narrow));
  line("<img src=\"{}\" alt=\"{}\"></picture>", data_url(wide),
       escaped(fmt::format("{} ({})", picture.title, picture.subtitle)));
  add_points(picture);
  line("</figure>");
}

/// The numbers of a picture, each with its record.
void Page::add_points(const Picture& picture) {
  std::string rows;
  const auto add_row = [&](const std::string& panel, const std::string& name, const std::string& x,
                           double y, const std::optional<Interval>& interval, std::int64_t record) {
    rows += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td data-v=\"{}\">{}</td><td>{}</td>"
        "<td>{}</td></tr>\n",
        escaped(panel), escaped(name), escaped(x), y, shown(y),
        interval ? fmt::format("{} to {}", shown(interval->low), shown(interval->high)) : "",
        record == kNoRecord ? "" : link_to(record, fmt::format("#{}", record + 1)));
  };
  for (const Panel& panel : picture.panels) {
    if (const auto* chart = std::get_if<Chart>(&panel.content)) {
      for (const Series& series : chart->series) {
        if (series.mark == Mark::guide) continue;
        for (const Point& point : series.points) {
          add_row(chart->y.label, series.name, short_number(point.x), point.y, point.interval,
                  point.record);
        }
      }
    } else if (const auto* bars = std::get_if<Bars>(&panel.content)) {
      for (const Bar& bar : bars->bars) {
        for (std::size_t p = 0; p < bars->parts.size(); ++p) {
          const bool is_whole = bars->parts.size() == 1 && bar.end;
          add_row(bars->axis.label, bar.label, bars->parts[p].name, bar.parts[p],
                  is_whole ? bar.end->interval : std::nullopt, bar.record);
        }
      }
    }
  }
  if (rows.empty()) return;
  line("<details><summary>Numbers of this picture</summary>");
  line(
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"numbers\"><table><thead>"
      "<tr><th>what</th><th>series</th><th>at</th><th>value</th><th>95% interval</th>"
      "<th>record</th></tr></thead><tbody>\n{}</tbody></table></div></details>",
      rows);
}

void Page::add_table(const TargetRecords& target) {
  std::vector<const Record*> pointers;
  for (const std::int64_t i : target.records) pointers.push_back(&at(i));
  const auto varies = [&](std::string_view field) {
    return std::any_of(pointers.begin(), pointers.end(), [&](const Record* record) {
      return text_of(*record, field) != text_of(*pointers[0], field);
    });
  };
  std::vector<std::string> names;
  for (const std::string_view field : naming_fields()) {
    if (field == "timestamp" || field == "bench" || field == "library") continue;
    if (field == "impl" || varies(field)) names.emplace_back(field);
  }
  std::vector<Column> measures;
  for (const Column& column : kMeasures) {
    const bool is_present = std::any_of(
        pointers.begin(), pointers.end(),
        [&](const Record* record) { return number_of(*record, column.field).has_value(); });
    if (is_present) measures.push_back(column);
  }

  line("<p class=\"soft\">{}. Columns sort when their heads are pressed.</p>",
       escaped(common_values(pointers, names)));
  line("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"records of {}\">",
       escaped(target.bench));
  std::string heads;
  const auto add_head_cell = [&](std::string_view title) {
    heads +=
        fmt::format("<th scope=\"col\" aria-sort=\"none\"><button type=\"button\">{}</button></th>",
                    escaped(title));
  };
  add_head_cell("record");
  for (const std::string& name : names) add_head_cell(name);
  add_head_cell("state");
  for (const Column& column : measures) {
    add_head_cell(column.title);
    if (column.field == "median_ms") add_head_cell("\u00b1, %");
  }
  line("<table class=\"sortable\"><thead><tr>{}</tr></thead><tbody>", heads);
  for (const std::int64_t i : target.records) {
    const Record& record = at(i);
    std::string cells =
        fmt::format("<td data-v=\"{}\">{}</td>", i + 1, link_to(i, fmt::format("#{}", i + 1)));
    const auto add_number = [&](std::optional<double> value) {
      cells +=
          value ? fmt::format("<td data-v=\"{}\">{}</td>", *value, shown(*value)) : "<td></td>";
    };
    for (const std::string& name : names) {
      const auto number = number_of(record, name);
      cells += number ? fmt::format("<td data-v=\"{}\">{}</td>", *number, short_number(*number))
                      : fmt::format("<td>{}</td>", escaped(text_of(record, name)));
    }
    cells += is_ok(record) ? "<td>ok</td>"
                           : fmt::format("<td class=\"state bad\">failed: {}</td>",
                                         escaped(text_of(record, "error")));
    for (const Column& column : measures) {
      auto value = number_of(record, column.field);
      if (value) *value *= column.factor;
      add_number(value);
      if (column.field != "median_ms") continue;
      const auto low = number_of(record, "ci95_low_ms"), high = number_of(record, "ci95_high_ms");
      const bool is_known = value && low && high && *value > 0;
      add_number(is_known ? std::optional(50 * (*high - *low) / *value) : std::nullopt);
    }
    line("<tr>{}</tr>", cells);
  }
  line("</tbody></table></div>");
}

void Page::add_records() {
  line("<section id=\"records\" class=\"records\">\n<h2>Records</h2>");
  line("<p class=\"soft\">Every figure above was taken from one of these.</p>");
  for (std::size_t i = 0; i < records_.size(); ++i) add_record(static_cast<std::int64_t>(i));
  line("</section>\n</main>");
}

void Page::add_record(std::int64_t i) {
  Record record = at(i);
  std::string note;
  const auto samples = record.find("samples_ms");
  if (samples != record.end() && samples->size() > kMostSamples) {
    note = fmt::format("<p class=\"soft\">samples_ms: the first {} of {}.</p>", kMostSamples,
                       samples->size());
    samples->erase(samples->begin() + kMostSamples, samples->end());
  }
  std::vector<std::string> fields;
  for (const char* field : {"bench", "impl", "config", "strategy", "routing", "tokens", "dtype"}) {
    fields.emplace_back(field);
  }
  line("<details id=\"r{}\"><summary>#{} {}{}</summary>", i + 1, i + 1,
       escaped(named_values(record, fields)),
       is_ok(record) ? "" : " <span class=\"bad\">failed</span>");
  const std::string command = text_of(record, "command");
  if (!command.empty()) line("<pre>{}</pre>", escaped(command));
  // One field per line; arrays stay on theirs.
  std::string json;
  for (const auto& [name, value] : record.items()) {
    json += fmt::format("{}  {}: {}", json.empty() ? "{\n" : ",\n", Record(name).dump(),
                        value.dump(-1, ' ', false, Record::error_handler_t::replace));
  }
  std::string text;
  for (std::size_t begin = 0; begin <= json.size();) {
    const std::size_t end = std::min(json.find('\n', begin), json.size());
    text += escaped(std::string_view(json).substr(begin, end - begin)) + '\n';
    begin = end + 1;
  }
  line("{}<pre>{}}}</pre></details>", note, text);
}

}  // namespace

std::string report_of(std::span<const Record> records, const ReportOptions& options) {
  require(!records.empty(), "no records: nothing to report");
  return Page(records, options).html();
}

}  // namespace switchyard
