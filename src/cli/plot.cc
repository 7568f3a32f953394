// switchyard plot FILES -k KIND -o FILE: pictures of records, or of where tokens are routed.

#include "report/plot.h"

#include <fmt/format.h>

#include "base/check.h"
#include "bench/axis.h"
#include "bench/draws.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/record_input.h"
#include "cli/verbs.h"
#include "cli/workload_options.h"
#include "report/draw.h"

namespace switchyard::cli {
namespace {

struct PlotArguments {
  std::vector<std::string> files;
  std::optional<PlotKind> kind;
  std::string out;
  PlotOptions options;
  std::vector<Match> where;
  Theme theme = Theme::automatic;
  Workload workload;
};

/// A source that no file of records is needed for. A trace says its sizes where nobody asked for
/// others.
Picture picture_of_source(const Workload& workload) {
  Workload sized = workload;
  Grid& grid = sized.grid;
  require(grid.routing.size() == 1, "--routing takes one source here");
  const RoutingSource source = RoutingSource::parse(grid.routing[0]);
  if (const Trace* trace = source.trace()) {
    if (trace->is_loads_only()) return picture_of_load(trace->load, grid.routing[0]);
    if (grid.experts.empty() && grid.config.empty()) grid.experts = {trace->experts};
    if (grid.top_k.empty() && grid.config.empty()) grid.top_k = {trace->top_k};
    if (grid.tokens.empty()) grid.tokens = {trace->tokens};
  }
  grid.base.bench = "topk";
  const auto groups = cells_of(sized);
  require(groups.size() == 1, "{} workloads: a picture shows one", groups.size());
  const Cell& cell = groups[0].front();
  Context context({.threads = cell.threads, .isa = {}});
  for (const std::string& note : source.notes(shape_of(cell))) {
    message(fmt::format("{}: {}", cell.routing, note));
  }
  const Draws draws(context, cell, source, 1);
  const std::string rule = source.gives_logits() ? fmt::format("{} of ", cell.strategy) : "";
  return picture_of_load(draws.routing(0), fmt::format("{}{}, T {}, E {}, K {}", rule, cell.routing,
                                                       cell.tokens, cell.experts, cell.top_k));
}

std::vector<OptionGroup> option_groups(PlotArguments& a) {
  std::string kinds;
  for (const PlotKindInfo& info : plot_kinds()) {
    kinds += fmt::format("{}{} ({})", kinds.empty() ? "" : "; ", info.name, info.summary);
  }
  OptionGroup picture{
      "Picture",
      {
          {{"-k", "--kind"},
           "KIND",
           kinds,
           [&a](const std::string& text) { a.kind = plot_kind_from_name(text); }},
          {{"-o", "--out"},
           "FILE",
           "where to: .png or .svg",
           [&a](const std::string& text) { a.out = text; }},
          {{"--x"},
           "FIELD",
           "numeric field of the x axis (tokens, or what varies most)",
           [&a](const std::string& text) { a.options.x = text; }},
          {{"--by"},
           "FIELD,...",
           "fields that tell series apart (impl); others are added where they must",
           [&a](const std::string& text) { a.options.by = name_axis("--by", text); }},
          {{"--baseline"},
           "FIELD=VALUE,...",
           "what speedup compares with: impl=loop",
           [&a](const std::string& text) { a.options.baseline = parse_matches(text); }},
          {{"--where"},
           "FIELD=VALUE,...",
           "only records with this value; several values of one field: any of them",
           [&a](const std::string& text) { a.where = parse_matches(text); }},
          {{"--theme"},
           "NAME",
           "light, dark or auto: an SVG follows its reader (auto)",
           [&a](const std::string& text) { a.theme = theme_from_name(text); }},
      }};
  std::vector<OptionGroup> groups = {std::move(picture)};
  for (OptionGroup& group : workload_options(a.workload)) {
    if (group.title != "Shape" && group.title != "Routing") continue;
    group.title += " of `plot load --routing SOURCE`, which needs no records";
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace

Status run_plot(std::span<const std::string> args, const std::string&) {
  PlotArguments a;
  const CommandLine line{
      .verb = "plot",
      .summary =
          "Draws the records of one or several files with gnuplot. The kind can also be the first "
          "argument.",
      .examples = {"plot layer.jsonl -k latency -o layer.png",
                   "plot sweep.jsonl -k throughput --x tokens --by impl,dtype -o sweep.svg",
                   "plot sweep.jsonl -k speedup --baseline impl=loop -o speedup.svg",
                   "plot load --routing trace:routing.jsonl --tokens 512 -o load.png"},
      .positionals = {{"FILE", "records: .json, .jsonl or .csv", false,
                       [&a](const std::string& text) { a.files.push_back(text); }, true}},
      .groups = option_groups(a),
  };
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  // "plot load ...": a kind needs no -k where a file's name would stand.
  if (!a.kind && !a.files.empty() && a.files[0].find('.') == std::string::npos) {
    a.kind = plot_kind_from_name(a.files[0]);
    a.files.erase(a.files.begin());
  }
  require(a.kind.has_value(), "plot needs a kind: {}", line.examples[0]);
  require(!a.out.empty(), "plot needs -o FILE, a name that ends in .png or .svg");
  image_format_of_path(a.out);
  if (!a.workload.grid.routing.empty()) {
    require(a.kind == PlotKind::load && a.files.empty(),
            "--routing is a source for the kind load, without files of records");
    draw(picture_of_source(a.workload), a.out, a.theme);
    return kDone;
  }
  require(!a.files.empty(), "plot needs a file of records: {}", line.examples[0]);
  const std::vector<Record> records = where(read_all_records(a.files), a.where);
  draw(picture_of(*a.kind, records, a.options), a.out, a.theme);
  return kDone;
}

}  // namespace switchyard::cli
