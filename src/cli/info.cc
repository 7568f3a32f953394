#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/cpu.h"
#include "bench/device_limits.h"
#include "bench/environment.h"
#include "bench/limits.h"
#include "bench/memory.h"
#include "cli/command_line.h"
#include "cli/formats.h"
#include "cli/output.h"
#include "cli/parts.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "combine/combine_impl.h"
#include "cuda/gpu.h"
#include "gemm/kernel.h"
#include "pack/pack_impl.h"
#include "switchyard/context.h"
#include "switchyard/routing.h"
#include "switchyard/version.h"
#include "topk/topk.h"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;

/// One line of the table, one entry of the JSON.
struct Fact {
  std::string key;
  std::string label;
  std::string text;
  Json value;
};

struct Section {
  std::string title;
  std::string key;
  std::vector<Fact> facts;
};

template <class Keep>
std::vector<std::string_view> isas_that(Keep keep) {
  std::vector<std::string_view> names;
  for (const Isa isa : kAllIsas) {
    if (keep(isa)) names.push_back(name_of(isa));
  }
  return names;
}

Fact names_fact(std::string name, const std::vector<std::string_view>& names) {
  return {name, name, fmt::format("{}", fmt::join(names, " ")), names};
}

Fact text_fact(std::string name, std::string_view text) {
  return {name, name, std::string(text), text};
}

Fact bytes_fact(std::string key, std::string label, std::int64_t bytes) {
  return {std::move(key), std::move(label),
          bytes > 0 ? human_bytes(static_cast<double>(bytes)) : "unknown", bytes};
}

Section build_section() {
  return {"This build",
          "build",
          {text_fact("version", version()),
           text_fact("commit", fmt::format("{}{}", git_sha(), git_is_dirty() ? " (modified)" : "")),
           text_fact("compiler", compiler())}};
}

Section cpu_section() {
  const CacheSizes caches = cache_sizes();
  return {"CPU",
          "cpu",
          {text_fact("model", cpu_name()),
           {"cpus", "CPUs",
            fmt::format("{} open to this process, of {}", available_cpus(),
                        sysconf(_SC_NPROCESSORS_CONF)),
            available_cpus()},
           bytes_fact("l1d_bytes", "L1 data", caches.l1),
           bytes_fact("l2_bytes", "L2", caches.l2),
           bytes_fact("l3_bytes", "L3", caches.l3)}};
}

Section isa_section() {
  return {"Instruction sets, slowest first",
          "isa",
          {names_fact("compiled", isas_that(isa_is_compiled)),
           names_fact("available", isas_that(isa_is_available)),
           text_fact("chosen", name_of(default_isa()))}};
}

Section memory_section() {
  const AvailableMemory memory = available_memory();
  return {"Memory",
          "memory",
          {bytes_fact("available_bytes", "available", memory.bytes),
           {"limited_by", "limited by", memory.source, memory.source},
           {"huge_pages", "huge pages", huge_page_state(), huge_page_state()}}};
}

Section parts_section() {
  Section section{"Optional parts", "parts", {}};
  for (const Part& part : parts()) {
    const std::string text = part.found ? fmt::format("in: {}", part.gives)
                                        : fmt::format("out: {} (apt install {}, then build again)",
                                                      part.gives, part.package);
    const std::string name(part.name);
    const Json value = {{"found", part.found}, {"gives", part.gives}, {"package", part.package}};
    section.facts.push_back({name, name, text, value});
  }
  return section;
}

std::string kernel_of(Isa cap, DType dtype) {
  return gemm::name_of(gemm::find_kernel(cap, dtype, dtype));
}

Section kernels_section() {
  const Context context({.threads = 1, .isa = {}});
  const Isa isa = context.isa();
  return {"Kernels chosen",
          "kernels",
          {text_fact("topk", name_of(topk_variant(isa).isa)),
           text_fact("pack", name_of(pack_isa(context))),
           text_fact("combine", name_of(combine_isa(context))),
           text_fact("gemm_f32", kernel_of(isa, DType::f32)),
           text_fact("gemm_bf16", kernel_of(isa, DType::bf16)),
           text_fact("gemm_f16", kernel_of(isa, DType::f16))}};
}

std::string table_of(const std::vector<Section>& sections) {
  std::string out;
  for (const Section& section : sections) {
    out += fmt::format("{}{}\n", out.empty() ? "" : "\n", section.title);
    std::vector<std::vector<std::string>> rows;
    for (const Fact& fact : section.facts) rows.push_back({"  " + fact.label, fact.text});
    out += aligned(rows, "ll");
  }
  return out;
}

std::string json_of(const std::vector<Section>& sections) {
  Json out;
  for (const Section& section : sections) {
    for (const Fact& fact : section.facts) out[section.key][fact.key] = fact.value;
  }
  return out.dump(2) + '\n';
}

Fact rate_fact(std::string key, std::string label, double value, std::string_view unit) {
  return {std::move(key), std::move(label), fmt::format("{}{}/s", human_count(value), unit), value};
}

Section bandwidth_section(const Ceilings& c) {
  return {fmt::format("Bandwidths measured, of {} threads where not of one", c.threads),
          "ceilings",
          {{"threads", "threads", fmt::format("{}", c.threads), c.threads},
           rate_fact("read_bw_one", "read, one thread", c.read_bw_one, "B"),
           rate_fact("read_bw", "read", c.read_bw, "B"),
           rate_fact("write_bw", "write", c.write_bw, "B"),
           rate_fact("copy_bw_one", "copy, one thread", c.copy_bw_one, "B"),
           rate_fact("copy_bw", "copy, read + written", c.copy_bw, "B"),
           rate_fact("gather_bw", "gather of rows, read + written", c.gather_bw, "B"),
           {"fork_join_s", "empty parallel region", fmt::format("{:.2f} us", c.fork_join_s * 1e6),
            c.fork_join_s}}};
}

Section peak_section(const Ceilings& c) {
  Section section{"Matrix peaks measured", "peak_flops", {}};
  for (const auto& [name, peak] : c.peak_flops) {
    section.facts.push_back(rate_fact(name, name, peak, "FLOP"));
  }
  return section;
}

Section device_section(const cuda::GpuInfo& gpu) {
  const auto version_text = [](int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); };
  return {"CUDA device",
          "device",
          {text_fact("model", gpu.name),
           text_fact("compute_capability", fmt::format("{}.{}", gpu.major, gpu.minor)),
           {"multiprocessors", "multiprocessors", fmt::format("{}", gpu.multiprocessors),
            gpu.multiprocessors},
           bytes_fact("memory_bytes", "memory", gpu.memory_bytes),
           bytes_fact("l2_bytes", "L2", gpu.l2_bytes),
           text_fact("driver", version_text(gpu.driver)),
           text_fact("runtime", version_text(gpu.runtime))}};
}

Fact microseconds_fact(std::string key, std::string label, double seconds) {
  return {std::move(key), std::move(label), fmt::format("{:.2f} us", seconds * 1e6), seconds};
}

Section device_ceilings_section(const DeviceCeilings& c) {
  Section section{"Of the device, measured",
                  "device_ceilings",
                  {rate_fact("read_bw", "read", c.read_bw, "B"),
                   rate_fact("copy_bw", "copy, read + written", c.copy_bw, "B"),
                   rate_fact("gather_bw", "gather of rows, read + written", c.gather_bw, "B"),
                   microseconds_fact("launch_s", "small work in a stream", c.launch_s),
                   microseconds_fact("graph_launch_s", "small work in a graph", c.graph_launch_s)}};
  for (const auto& [dtype, peak] : c.peak_flops) {
    section.facts.push_back(rate_fact("peak_" + dtype, "product of " + dtype, peak, "FLOP"));
  }
  return section;
}

void print_device(PrintFormat format, bool measure) {
  Context context({.device = Device::cuda});
  std::vector<Section> sections = {build_section(), device_section(cuda::gpu_of(context).info())};
  if (measure) sections.push_back(device_ceilings_section(measure_device_ceilings(context)));
  print(format == PrintFormat::json ? json_of(sections) : table_of(sections));
}

void print_machine(PrintFormat format, bool measure) {
  std::vector<Section> sections = {build_section(), cpu_section(),     memory_section(),
                                   isa_section(),   kernels_section(), parts_section()};
  if (measure) {
    Context context;
    const Ceilings ceilings = ceilings_for(context, true);
    sections.push_back(bandwidth_section(ceilings));
    sections.push_back(peak_section(ceilings));
  }
  print(format == PrintFormat::json ? json_of(sections) : table_of(sections));
}

/// "a, b" as a list.
std::vector<std::string> names_in(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const auto comma = std::min(text.find(", "), text.size());
    names.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 2, text.size()));
  }
  return names;
}

void print_strategies(PrintFormat format) {
  const StrategyRegistry registry = StrategyRegistry::builtin();
  Json json = Json::array();
  std::string text;
  for (const Strategy& s : registry.all()) {
    json.push_back({{"name", s.name},
                    {"causal", s.causal},
                    {"summary", s.summary},
                    {"source", s.source},
                    {"knobs", names_in(s.knobs)}});
    text += fmt::format("{}{}\n  {}\n  source: {}\n  causal: {}\n  knobs: {}\n",
                        text.empty() ? "" : "\n", s.name, s.summary, s.source,
                        s.causal ? "yes" : "no", s.knobs.empty() ? "none" : s.knobs);
  }
  print(format == PrintFormat::json ? json.dump(2) + '\n' : text);
}

}  // namespace

Status run_info(std::span<const std::string> args, const std::string&) {
  std::string topic;
  bool measure = false, on_device = false;
  PrintFormat format = PrintFormat::table;
  const CommandLine line{
      .verb = "info",
      .summary = "Prints this machine, this build and the kernels it chooses.",
      .examples = {"info", "info --measure", "info strategies", "info -o json"},
      .positionals = {{"TOPIC", "strategies: the routing rules", false,
                       [&](const std::string& text) { topic = text; }}},
      .groups = {{"Options",
                  {{{"--measure"},
                    "",
                    "also measure what this machine can do: bandwidths and matrix peaks",
                    [&](const std::string&) { measure = true; }},
                   {{"--device"},
                    "NAME",
                    "cpu or cuda (cpu): cuda prints the CUDA device instead of the machine",
                    [&](const std::string& name) {
                      constexpr std::string_view kDevices[] = {"cpu", "cuda"};
                      on_device = name == "cuda";
                      require(on_device || name == "cpu", "{}",
                              unknown_name("device", name, kDevices));
                    }},
                   print_format_option(format)}}},
  };
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  constexpr std::string_view kTopics[] = {"strategies"};
  require(topic.empty() || topic == kTopics[0], "{}", unknown_name("topic", topic, kTopics));
  if (topic.empty() && on_device) {
    print_device(format, measure);
  } else if (topic.empty()) {
    print_machine(format, measure);
  } else {
    print_strategies(format);
  }
  return kDone;
}

}  // namespace switchyard::cli
