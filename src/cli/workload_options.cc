#include "cli/workload_options.h"

#include <fmt/ranges.h>

#include "base/check.h"
#include "bench/axis.h"
#include "workload/configs.h"

namespace switchyard::cli {
namespace {

// The largest sizes taken: beyond any model, and small enough that no product of them overflows
// before the memory check has seen it.
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxExperts = std::int64_t{1} << 16;
constexpr std::int64_t kMaxThreads = 4096;
constexpr std::int64_t kMaxSeed = INT64_MAX;

/// An option whose integers become an axis of the grid.
Option integers(std::vector<std::string> names, std::string help, std::vector<std::int64_t>& axis,
                std::int64_t least, std::int64_t most) {
  const std::string name = names[0];
  return {std::move(names), "N,...", std::move(help),
          [name, &axis, least, most](const std::string& text) {
            axis = integer_axis(name, text, least, most);
          }};
}

/// An option whose names become an axis of the grid; `parse` refuses an unknown one.
template <class T, class Parse>
Option names(const std::string& name, std::string value, std::string help, std::vector<T>& axis,
             Parse parse) {
  return {{name}, std::move(value), std::move(help), [name, &axis, parse](const std::string& text) {
            axis.clear();
            for (const std::string& piece : name_axis(name, text)) axis.push_back(parse(piece));
          }};
}

template <class T>
void vary(Workload& workload, const std::vector<T>& values, void (*change)(Cell&, T)) {
  auto& ways = workload.variations.emplace_back();
  for (const T value : values) {
    ways.push_back([change, value](Cell& cell) { change(cell, value); });
  }
}

/// Numbers that vary beside the grid's axes.
Option integers(Workload& workload, const std::string& name, std::string help, std::int64_t least,
                std::int64_t most, void (*change)(Cell&, std::int64_t)) {
  return {{name},
          "N,...",
          std::move(help),
          [&workload, name, least, most, change](const std::string& text) {
            vary(workload, integer_axis(name, text, least, most), change);
          }};
}

Option numbers(Workload& workload, const std::string& name, std::string help, double least,
               double most, void (*change)(Cell&, double)) {
  return {{name},
          "X,...",
          std::move(help),
          [&workload, name, least, most, change](const std::string& text) {
            vary(workload, number_axis(name, text, least, most), change);
          }};
}

template <class T, class Parse>
Option names(Workload& workload, const std::string& name, std::string value, std::string help,
             Parse parse, void (*change)(Cell&, T)) {
  return {{name},
          std::move(value),
          std::move(help),
          [&workload, name, parse, change](const std::string& text) {
            std::vector<T> values;
            for (const std::string& piece : name_axis(name, text)) values.push_back(parse(piece));
            vary(workload, values, change);
          }};
}

Option flag(const std::string& name, std::string help, std::function<void()> set) {
  return {{name}, "", std::move(help), [set = std::move(set)](const std::string&) { set(); }};
}

Device device_from_name(const std::string& name) {
  constexpr std::string_view kDevices[] = {"cpu", "cuda"};
  require(name == kDevices[0] || name == kDevices[1], "{}", unknown_name("device", name, kDevices));
  return name == kDevices[0] ? Device::cpu : Device::cuda;
}

template <class Things>
std::string names_of(const Things& things) {
  std::vector<std::string_view> out;
  for (const auto& thing : things) out.push_back(thing.name);
  return fmt::format("{}", fmt::join(out, ", "));
}

OptionGroup shape_options(Grid& grid) {
  constexpr auto same = [](const std::string& name) { return name; };
  return {
      "Shape",
      {
          integers({"--tokens", "--num-tokens"}, fmt::format("tokens, T ({})", grid.base.tokens),
                   grid.tokens, 1, kMaxTokens),
          integers({"--batch-sizes", "--batch-size"},
                   "sequences: T is this times --seq-len, in the place of --tokens",
                   grid.batch_size, 1, kMaxTokens),
          integers({"--seq-len"}, "tokens of a sequence (128)", grid.seq_len, 1, kMaxTokens),
          names(
              "--config", "NAME,...",
              fmt::format("hidden, ffn, experts and top-k of a model: {}; options given beside it "
                          "win",
                          names_of(named_configs())),
              grid.config, same),
          integers({"--hidden", "--hidden-dim", "--d-model"},
                   fmt::format("elements of a token row, H ({})", grid.base.hidden), grid.hidden, 1,
                   kMaxWidth),
          integers({"--experts", "--num-experts"},
                   fmt::format("experts, E ({})", grid.base.experts), grid.experts, 1, kMaxExperts),
          integers({"--ffn"}, fmt::format("width of an expert, F ({})", grid.base.ffn), grid.ffn, 1,
                   kMaxWidth),
          integers({"--top-k"}, fmt::format("experts per token, K ({})", grid.base.top_k),
                   grid.top_k, 1, kMaxExperts),
      }};
}

OptionGroup type_options(Workload& workload) {
  Grid& grid = workload.grid;
  return {
      "Types",
      {
          names("--dtype", "NAME,...", "activations: f32, bf16, f16 (bf16)", grid.dtype,
                dtype_from_name),
          names("--weights", "NAME,...", "expert weights: f32, bf16, f16, int8, int4 (as --dtype)",
                grid.weights, weight_format_from_name),
          integers(workload, "--quant-group",
                   "columns of int4 weights that share a scale: 32, 64, 128 (32)", 32, 128,
                   [](Cell& c, std::int64_t v) { c.quant.group = v; }),
          flag("--zero-points", "int4 weights with a zero point a group",
               [&grid] { grid.base.quant.zero_points = true; }),
          names<ScaleSearch>(workload, "--scale-search", "NAME,...",
                             "how scales of integer weights are found: absmax, mse (absmax)",
                             scale_search_from_name,
                             [](Cell& c, ScaleSearch v) { c.quant.search = v; }),
          names<Activation>(workload, "--activation", "NAME,...",
                            "of the experts: silu, gelu, relu (silu)", activation_from_name,
                            [](Cell& c, Activation a) { c.activation = a; }),
          flag("--plain", "experts without a gate projection: down(act(up(x)))",
               [&grid] { grid.base.gated = false; }),
      }};
}

OptionGroup routing_options(Workload& workload) {
  Grid& grid = workload.grid;
  const StrategyRegistry registry = StrategyRegistry::builtin();
  constexpr auto same = [](const std::string& name) { return name; };
  return {
      "Routing",
      {
          names("--routing", "SOURCE,...",
                "where logits or assignments come from: uniform, zipf:S, skew:N:BIAS, gate, "
                "trace:FILE or trace:FILE:LAYER (uniform)",
                grid.routing, same),
          integers({"--skew-experts"},
                   "with --skew-bias another spelling of --routing skew:N:BIAS: N",
                   workload.skew_experts, 1, kMaxExperts),
          {{"--skew-bias"},
           "X,...",
           "its BIAS, added to the logits of the first N experts",
           [&workload](const std::string& text) {
             workload.skew_bias = number_axis("--skew-bias", text, -1e6, 1e6);
           }},
          names("--router", "NAME,...", "what makes the logits: linear, mlp, mlp_hadamard (linear)",
                grid.router, router_arch_from_name),
          integers(workload, "--router-hidden",
                   "width of its MLP (mlp: H / 2, at least 64; mlp_hadamard: H)", 1, kMaxWidth,
                   [](Cell& c, std::int64_t n) { c.router_hidden = n; }),
          names("--strategy", "NAME,...",
                fmt::format("routing rule: {} ({}); `switchyard info strategies` explains them",
                            names_of(registry.all()), grid.base.strategy),
                grid.strategy, same),
          flag("--norm-topk", "a token's weights sum to 1 (the default)",
               [&grid] { grid.base.router.norm_topk = true; }),
          flag("--no-norm-topk", "weights stay as selected",
               [&grid] { grid.base.router.norm_topk = false; }),
          numbers(workload, "--temperature", "of softk and sinkhorn (1)", 1e-6, 1e6,
                  [](Cell& c, double x) { c.router.temperature = static_cast<float>(x); }),
          integers(workload, "--n-group", "expert groups of sigmoid_bias and group_limited (1)", 1,
                   kMaxExperts,
                   [](Cell& c, std::int64_t n) { c.router.n_group = static_cast<int>(n); }),
          integers(workload, "--topk-group", "groups kept (1)", 1, kMaxExperts,
                   [](Cell& c, std::int64_t n) { c.router.topk_group = static_cast<int>(n); }),
          numbers(
              workload, "--routed-scaling-factor", "multiplies the weights (1)", 1e-6, 1e6,
              [](Cell& c, double x) { c.router.routed_scaling_factor = static_cast<float>(x); }),
          integers(
              workload, "--sinkhorn-iters",
              fmt::format("rounds of balancing of sinkhorn ({})", grid.base.router.sinkhorn_iters),
              1, 10000,
              [](Cell& c, std::int64_t n) { c.router.sinkhorn_iters = static_cast<int>(n); }),
          numbers(workload, "--choice-capacity",
                  "an expert of expert_choice takes ceil(X * T * K / E) tokens (1)", 1e-6, 1e6,
                  [](Cell& c, double x) { c.router.choice_capacity = x; }),
          numbers(workload, "--noise-std", "standard deviation of noisy_topk's noise (1)", 0, 1e6,
                  [](Cell& c, double x) { c.router.noise_std = static_cast<float>(x); }),
          integers(
              workload, "--slots-per-expert", "slots of each expert of soft_moe (1)", 1,
              kMaxExperts,
              [](Cell& c, std::int64_t n) { c.router.slots_per_expert = static_cast<int>(n); }),
          integers(workload, "--seed", fmt::format("of every random number ({})", grid.base.seed),
                   0, kMaxSeed,
                   [](Cell& c, std::int64_t n) {
                     c.seed = static_cast<std::uint64_t>(n);
                     c.router.seed = c.seed;
                   }),
      }};
}

OptionGroup plan_options(Workload& workload) {
  Grid& grid = workload.grid;
  return {
      "Plan",
      {
          names("--layout", "NAME,...", "expert rows: compact, capacity, block, fused (compact)",
                grid.layout, layout_from_name),
          {{"--capacity-factor", "--capacity-factors"},
           "X,...",
           "an expert takes ceil(X * T * K / E) rows and drops the rest; 0: all (0)",
           [&grid](const std::string& text) {
             grid.capacity_factor = number_axis("--capacity-factor", text, 0, 1e6);
           }},
          names<DropPolicy>(workload, "--drop-policy", "NAME,...",
                            "what a full expert keeps: position (the first) or probs (the "
                            "largest weights) (position)",
                            drop_policy_from_name,
                            [](Cell& c, DropPolicy policy) { c.drop_policy = policy; }),
          flag("--renormalise", "scale a token's kept weights to their sum before dropping",
               [&grid] { grid.base.renormalise = true; }),
      }};
}

OptionGroup machine_options(Grid& grid) {
  return {"Machine",
          {
              {{"--device"},
               "NAME",
               "cpu or cuda (cpu)",
               [&grid](const std::string& name) { grid.base.device = device_from_name(name); }},
              integers({"--threads"}, "threads (one per CPU)", grid.threads, 1, kMaxThreads),
          }};
}

}  // namespace

namespace {

/// The sources that --routing names, or that --skew-experts and --skew-bias do.
std::vector<std::string> sources_of(const Workload& workload) {
  const auto& experts = workload.skew_experts;
  const auto& biases = workload.skew_bias;
  if (experts.empty() && biases.empty()) return workload.grid.routing;
  require(workload.grid.routing.empty(),
          "--routing and {}: both say where logits come from, expected one of them",
          experts.empty() ? "--skew-bias" : "--skew-experts");
  require(!biases.empty(), "--skew-experts needs --skew-bias, what it adds to their logits");
  require(!experts.empty(), "--skew-bias needs --skew-experts, how many experts it is added to");
  std::vector<std::string> sources;
  for (const std::int64_t n : experts) {
    for (const double bias : biases) sources.push_back(fmt::format("skew:{}:{}", n, bias));
  }
  return sources;
}

}  // namespace

std::vector<OptionGroup> workload_options(Workload& workload) {
  return {shape_options(workload.grid), type_options(workload), routing_options(workload),
          plan_options(workload), machine_options(workload.grid)};
}

std::vector<std::vector<Cell>> cells_of(const Workload& workload) {
  std::vector<Cell> bases = {workload.grid.base};
  for (const auto& ways : workload.variations) {
    std::vector<Cell> varied;
    for (const Cell& base : bases) {
      for (const auto& change : ways) change(varied.emplace_back(base));
    }
    bases = std::move(varied);
  }
  std::vector<std::vector<Cell>> groups;
  const std::vector<std::string> sources = sources_of(workload);
  for (const Cell& base : bases) {
    Grid grid = workload.grid;
    grid.routing = sources;
    grid.base = base;
    for (auto& group : expand(grid)) groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace switchyard::cli
