// How many assignments each expert has, and which tokens they are of.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "report/fields.h"
#include "report/pictures.h"
#include "switchyard/load.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostPanels = 6;
constexpr int kMostRows = 512;

Panel columns_of(std::span<const double> load, std::string title, std::int64_t record) {
  const double mean =
      std::accumulate(load.begin(), load.end(), 0.0) / static_cast<double>(load.size());
  Series columns{.name = "", .mark = Mark::columns, .points = {}};
  for (std::size_t e = 0; e < load.size(); ++e) {
    columns.points.push_back({.x = static_cast<double>(e), .y = load[e], .record = record});
  }
  Chart chart{{.label = "expert"}, {.label = "assignments", .from_zero = true}, {}};
  chart.series.push_back(std::move(columns));
  const double last = static_cast<double>(load.size()) - 0.5;
  chart.series.push_back({fmt::format("mean, {}", short_number(mean)),
                          Mark::guide,
                          {{.x = -0.5, .y = mean}, {.x = last, .y = mean}}});
  return {std::move(title), std::move(chart)};
}

std::string load_words(const LoadStats& stats) {
  return fmt::format("busiest {:.2f} times the mean, CV {:.3f}, {} experts active",
                     stats.max_over_mean, stats.cv, stats.experts_active);
}

/// What share of a row's tokens chose the column's expert.
Heat heat_of(const Routing& routing) {
  const auto tokens = routing.num_tokens;
  const std::int64_t tokens_per_row = (tokens + kMostRows - 1) / kMostRows;
  Heat heat{.x_label = "expert",
            .y_label = "token",
            .value_label = tokens_per_row == 1 ? "chosen" : "share of tokens that chose it",
            .rows = static_cast<int>((tokens + tokens_per_row - 1) / tokens_per_row),
            .columns = routing.num_experts,
            .rows_per_cell = static_cast<double>(tokens_per_row),
            .values = {}};
  heat.values.resize(static_cast<std::size_t>(heat.rows) * static_cast<std::size_t>(heat.columns));
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t row = t / tokens_per_row;
    const auto tokens_of_row =
        static_cast<double>(std::min(tokens_per_row, tokens - row * tokens_per_row));
    const auto at = static_cast<std::size_t>(t);
    for (std::int64_t a = routing.token_begin[at]; a < routing.token_begin[at + 1]; ++a) {
      const std::int64_t cell = row * heat.columns + routing.expert[static_cast<std::size_t>(a)];
      heat.values[static_cast<std::size_t>(cell)] += 1 / tokens_of_row;
    }
  }
  return heat;
}

}  // namespace

Picture picture_of_load(std::span<const std::int64_t> load, const std::string& source) {
  require(!load.empty(), "load is empty: expected the count of at least one expert");
  const std::vector<double> counts(load.begin(), load.end());
  return {"expert load",
          fmt::format("{}: {}", source, load_words(load_stats(load))),
          {columns_of(counts, "", kNoRecord)}};
}

Picture picture_of_load(const Routing& routing, const std::string& source) {
  validate(routing);
  require(routing.num_tokens > 0, "routing has no tokens: nothing to draw");
  std::vector<std::int64_t> load(static_cast<std::size_t>(routing.num_experts));
  for (const std::int32_t expert : routing.expert) ++load[static_cast<std::size_t>(expert)];
  Picture picture = picture_of_load(load, source);
  picture.panels.push_back({"", heat_of(routing)});
  return picture;
}

Picture load_picture(std::span<const Record> records, const PlotOptions& options) {
  Selection selection{.records = records};
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto load = records[i].find("expert_load");
    if (is_ok(records[i]) && load != records[i].end() && !load->empty()) {
      selection.used.push_back(static_cast<std::int64_t>(i));
    }
  }
  require(!selection.used.empty(),
          "nothing to draw: none of the {} records is ok and has expert_load; measure again, or "
          "draw a source with --routing",
          records.size());
  // Implementations of one cell share their load: one of them stands for all.
  std::map<std::vector<double>, std::int64_t> seen;
  std::erase_if(selection.used, [&](std::int64_t i) {
    return !seen.emplace(selection[i]["expert_load"].get<std::vector<double>>(), i).second;
  });
  require(selection.used.size() <= kMostPanels,
          "{} different loads: more than {} do not fit one picture; draw part of them with --where "
          "FIELD=VALUE",
          selection.used.size(), kMostPanels);

  const Grouping grouping = group_records(records, selection.used, "", options.by);
  Picture picture{title_of(selection, "expert load"), subtitle_of(selection, grouping.by), {}};
  for (const auto& group : grouping.groups) {
    const std::int64_t i = group.records[0];
    const auto load = selection[i]["expert_load"].get<std::vector<double>>();
    picture.panels.push_back(columns_of(load, group.name, i));
  }
  return picture;
}

}  // namespace switchyard
