// switchyard trace stats FILE: how evenly a recorded trace loads its experts.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "cli/command_line.h"
#include "cli/formats.h"
#include "cli/load_line.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "workload/trace.h"
#include "workload/trace_stats.h"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kPictureWidth = 80;

Json json_of(const std::vector<Trace>& layers) {
  Json out = Json::array();
  for (const Trace& layer : layers) {
    const TraceStats stats = trace_stats(layer);
    Json json = {{"layer", layer.layer},
                 {"format", name_of(layer.format)},
                 {"experts", layer.experts},
                 {"load_cv", stats.load.cv},
                 {"load_max_over_mean", stats.load.max_over_mean},
                 {"max_vio", stats.load.max_vio},
                 {"load_entropy", stats.load.entropy},
                 {"experts_active", stats.load.experts_active},
                 {"load", layer.load},
                 {"notes", layer.notes}};
    if (!layer.is_loads_only()) {
      json["tokens"] = layer.tokens;
      json["top_k"] = layer.top_k;
    }
    out.push_back(std::move(json));
  }
  return out;
}

std::string table_of(const std::vector<Trace>& layers) {
  const bool single = layers.size() == 1;
  std::vector<std::vector<std::string>> rows = {{"layer", "tokens", "E", "K", "assignments",
                                                 "active", "CV", "max/mean", "MaxVio", "entropy"}};
  if (!single) rows[0].push_back("load of experts");
  for (const Trace& layer : layers) {
    const TraceStats stats = trace_stats(layer);
    const bool loads_only = layer.is_loads_only();
    auto& row = rows.emplace_back();
    row = {layer.layer,
           loads_only ? "-" : fmt::format("{}", layer.tokens),
           fmt::format("{}", layer.experts),
           loads_only ? "-" : fmt::format("{}", layer.top_k),
           fmt::format("{}", stats.assignments),
           fmt::format("{}", stats.load.experts_active),
           fmt::format("{:.3f}", stats.load.cv),
           fmt::format("{:.2f}", stats.load.max_over_mean),
           fmt::format("{:.2f}", stats.load.max_vio),
           fmt::format("{:.4f}", stats.load.entropy)};
    if (!single) row.push_back(load_line(layer.load));
  }
  std::string out = aligned(rows, "lrrrrrrrrrl");
  if (single) out += '\n' + load_picture(layers[0].load, kPictureWidth, BarOrder::by_expert);
  return out;
}

/// Notes that many layers share are said once.
void print_notes(const std::vector<Trace>& layers) {
  std::map<std::string, std::vector<std::string_view>> layers_of_note;
  for (const Trace& layer : layers) {
    for (const std::string& note : layer.notes) layers_of_note[note].push_back(layer.layer);
  }
  for (const auto& [note, names] : layers_of_note) {
    const std::string where =
        names.size() == layers.size() ? "" : fmt::format(" (layer {})", fmt::join(names, ", "));
    message(fmt::format("{}: {}{}", layers[0].file, note, where));
  }
}

}  // namespace

Status run_trace(std::span<const std::string> args, const std::string&) {
  std::string action, file, layer;
  PrintFormat format = PrintFormat::table;
  const CommandLine line{
      .verb = "trace",
      .summary =
          "Prints, for each layer of a recorded routing trace, its tokens, experts and K, how "
          "unevenly it loads its experts, and a picture of the load.",
      .examples = {"trace stats routing.jsonl", "trace stats routing.jsonl --layer 7",
                   "trace stats counts.csv --layer wikipedia/7 -o json"},
      .positionals = {{"stats", "the one thing to ask for", true,
                       [&](const std::string& text) { action = text; }},
                      {"FILE", "a trace; its format is told by its content", true,
                       [&](const std::string& text) { file = text; }}},
      .groups = {{"Options",
                  {{{"--layer"},
                    "NAME",
                    "only this layer, by its name or the last parts of it",
                    [&](const std::string& text) { layer = text; }},
                   print_format_option(format)}}},
  };
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  constexpr std::string_view kActions[] = {"stats"};
  require(action == kActions[0], "{}", unknown_name("trace action", action, kActions));
  const std::vector<Trace> layers =
      layer.empty() ? read_trace_layers(file) : std::vector<Trace>{read_trace(file, layer)};
  print_notes(layers);
  print(format == PrintFormat::json ? json_of(layers).dump(2) + '\n' : table_of(layers));
  return kDone;
}

}  // namespace switchyard::cli
