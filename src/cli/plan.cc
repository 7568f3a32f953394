// switchyard plan: routes one workload and shows where every row goes.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "bench/dispatch_inputs.h"
#include "bench/draws.h"
#include "bench/target.h"
#include "cli/formats.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "cli/workload_options.h"
#include "switchyard/load.h"
#include "switchyard/plan.h"
#include "workload/trace_stats.h"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kPictureWidth = 80;

/// A plan and what it means.
struct Planned {
  Cell cell;
  DispatchPlan plan;
  LoadStats load;
  DropStats drops;
  double gate_entropy = 0;
  CellCost cost;  ///< of the layer
};

Planned planned(const Cell& cell) {
  Context context({.threads = cell.threads, .isa = {}});
  const RoutingSource source = RoutingSource::parse(cell.routing);
  for (const std::string& note : source.notes(shape_of(cell)))
    message(fmt::format("{}: {}", cell.routing, note));
  const Draws draws(context, cell, source, 1);
  Planned out{cell, {}, {}, {}, gate_entropy(draws.routing(0)), find_target("layer").cost(cell)};
  make_plan(context, draws.routing(0), plan_options_of(cell), out.plan);
  out.load = load_stats(out.plan.expert_rows);
  out.drops = drop_stats(out.plan);
  return out;
}

Json json_of(const Planned& p) {
  return {{"strategy", p.cell.strategy},
          {"routing", p.cell.routing},
          {"layout", name_of(p.plan.layout)},
          {"tokens", p.plan.num_tokens},
          {"experts", p.plan.num_experts},
          {"top_k", p.cell.top_k},
          {"capacity", p.plan.capacity},
          {"rows", p.plan.num_rows()},
          {"padding_rows", p.drops.padding_rows},
          {"drop_rate", p.drops.drop_rate},
          {"token_drop_rate", p.drops.token_drop_rate},
          {"load_cv", p.load.cv},
          {"load_max_over_mean", p.load.max_over_mean},
          {"max_vio", p.load.max_vio},
          {"load_entropy", p.load.entropy},
          {"experts_active", p.load.experts_active},
          {"gate_entropy", p.gate_entropy},
          {"memory_bytes", p.cost.memory_bytes},
          {"flops", p.cost.flops},
          {"expert_begin", p.plan.expert_begin},
          {"expert_rows", p.plan.expert_rows}};
}

std::string table_of(const Planned& p) {
  const std::string capacity = p.plan.capacity > 0 ? fmt::format("{}", p.plan.capacity) : "none";
  const std::vector<std::vector<std::string>> rows = {
      {"tokens", fmt::format("{}", p.plan.num_tokens)},
      {"experts", fmt::format("{}, {:.4g} per token", p.plan.num_experts,
                              static_cast<double>(p.plan.row_of_assignment.size()) /
                                  static_cast<double>(p.plan.num_tokens))},
      {"routing", fmt::format("{} of {}", p.cell.strategy, p.cell.routing)},
      {"layout", std::string(name_of(p.plan.layout))},
      {"capacity", capacity},
      {"rows", fmt::format("{}, {} of them padding", p.plan.num_rows(), p.drops.padding_rows)},
      {"dropped", fmt::format("{:.2f}% of assignments, {:.2f}% of tokens", 100 * p.drops.drop_rate,
                              100 * p.drops.token_drop_rate)},
      {"load", fmt::format("CV {:.3f}, max/mean {:.2f}, MaxVio {:.2f}, entropy {:.4f}, {} active",
                           p.load.cv, p.load.max_over_mean, p.load.max_vio, p.load.entropy,
                           p.load.experts_active)},
      {"gate entropy", fmt::format("{:.3f} nat", p.gate_entropy)},
      {"layer",
       fmt::format("{} of memory, {}FLOP", human_bytes(static_cast<double>(p.cost.memory_bytes)),
                   human_count(p.cost.flops))}};
  return aligned(rows, "ll") + "\nrows of each expert\n" +
         load_picture(p.plan.expert_rows, kPictureWidth, BarOrder::by_expert);
}

}  // namespace

Status run_plan(std::span<const std::string> args, const std::string&) {
  Workload workload;
  workload.grid.base.bench = "layer";
  PrintFormat format = PrintFormat::table;
  CommandLine line{
      .verb = "plan",
      .summary =
          "Routes one workload and prints its dispatch plan: the rows of each expert, what is "
          "dropped, padding, load, and what the layer would need. Options take one value.",
      .examples =
          {"plan --config olmoe --tokens 1024 --routing zipf:1.2",
           "plan --tokens 256 --experts 8 --top-k 2 --layout capacity --capacity-factor 1.25",
           "plan --config olmoe --tokens 64 -o json"},
      .positionals = {},
      .groups = workload_options(workload),
  };
  line.groups.push_back({"Output", {print_format_option(format)}});
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  const auto groups = cells_of(workload);
  require(groups.size() == 1, "plan takes one value per option: these give {} plans",
          groups.size());
  const Planned result = planned(groups[0][0]);
  print(format == PrintFormat::json ? json_of(result).dump(2) + '\n' : table_of(result));
  return kDone;
}

}  // namespace switchyard::cli
