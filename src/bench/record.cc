#include "bench/record.h"

#include <cmath>
#include <vector>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr bool kIdentity = true;

constexpr RecordField kFields[] = {
    {"schema", "string", "", "version of this table: switchyard/1"},
    {"bench", "string", "", "target: topk, router, plan, pack, combine, dispatch, experts, ...",
     kIdentity},
    {"impl", "string", "", "implementation of the target", kIdentity},
    {"strategy", "string", "", "routing rule; absent where a trace holds the assignments",
     kIdentity},
    {"layout", "string", "", "how expert rows lie: compact, capacity, block, fused", kIdentity},
    {"device", "string", "", "cpu or cuda", kIdentity},
    {"isa", "string", "", "instruction set of the kernel that ran"},
    {"dtype", "string", "", "element type of activations", kIdentity},
    {"weights", "string", "", "element type of expert weights", kIdentity},
    {"threads", "integer", "1", "threads that worked", kIdentity},
    {"ranks", "integer", "1", "processes that worked together", kIdentity},
    {"tokens", "integer", "1", "T", kIdentity},
    {"hidden", "integer", "1", "H, elements of a token row", kIdentity},
    {"ffn", "integer", "1", "F, width of an expert", kIdentity},
    {"experts", "integer", "1", "E", kIdentity},
    {"top_k", "integer", "1", "K, experts per token", kIdentity},
    {"capacity_factor", "number", "1", "capacity is ceil(this * T * K / E); 0: nothing is dropped",
     kIdentity},
    {"routing", "string", "", "where logits or assignments come from, as given to --routing",
     kIdentity},
    {"config", "string", "", "name given to --config", kIdentity},
    {"seed", "integer", "1", "of every random number", kIdentity},
    {"ok", "boolean", "", "the cell ran and its output passed the check"},
    {"error", "string", "", "why not"},
    {"error_code", "string", "", "its kind: out_of_memory, check_failed, invalid_argument, ..."},
    {"check_rel_err", "number", "1", "||out - ref|| / ||ref|| of the output that was timed"},
    {"check_tol", "number", "1", "largest check_rel_err that passes"},
    {"samples_ms", "numbers", "ms", "every sample, in the order taken"},
    {"median_ms", "number", "ms", "median of the samples"},
    {"mean_ms", "number", "ms", "their mean"},
    {"std_ms", "number", "ms", "their population standard deviation"},
    {"min_ms", "number", "ms", "the fastest"},
    {"p05_ms", "number", "ms", "5th percentile"},
    {"p95_ms", "number", "ms", "95th percentile"},
    {"p99_ms", "number", "ms", "99th percentile"},
    {"ci95_low_ms", "number", "ms", "lower end of the median's 95% bootstrap interval"},
    {"ci95_high_ms", "number", "ms", "upper end of it"},
    {"t_logit_ms", "number", "ms", "median time of the router's matrix product"},
    {"t_select_ms", "number", "ms", "of choosing experts"},
    {"t_plan_ms", "number", "ms", "of building the dispatch plan"},
    {"t_pack_ms", "number", "ms", "of packing rows; in the router target plan and pack together"},
    {"t_route_ms", "number", "ms", "of all that precedes the experts"},
    {"t_experts_ms", "number", "ms", "of the expert matrix products"},
    {"t_combine_ms", "number", "ms", "of the weighted sum back into token order"},
    {"routing_share", "number", "1", "part of the layer's time that is not the experts'"},
    {"tokens_per_s", "number", "tokens/s", "tokens / median"},
    {"flops", "number", "flop", "useful work: no padding rows"},
    {"tflops", "number", "Tflop/s", "flops / median"},
    {"bytes", "number", "bytes", "each byte that was touched, once"},
    {"bytes_per_token_strict", "number", "bytes", "(2 + 2K) * H * element size, pack and combine"},
    {"bw_GiBps_strict", "number", "GiB/s", "strict bytes / median"},
    {"weight_bytes", "number", "bytes", "weights of the distinct experts that were touched"},
    {"peak_rss_bytes", "integer", "bytes",
     "peak resident memory of the process with this implementation"},
    {"limit_ms", "number", "ms", "max(flops / peak, bytes / bandwidth), both measured here"},
    {"limit_kind", "string", "", "which of the two: compute or memory"},
    {"fraction_of_limit", "number", "1", "limit_ms / median_ms"},
    {"load_cv", "number", "1", "std / mean of the assignments kept by each expert"},
    {"load_max_over_mean", "number", "1", "the busiest expert's assignments over the mean"},
    {"max_vio", "number", "1", "load_max_over_mean - 1"},
    {"load_entropy", "number", "1", "-sum p ln p / ln E, p = share of an expert; 1 is balanced"},
    {"experts_active", "integer", "1", "experts that kept at least one assignment"},
    {"expert_load", "numbers", "1", "assignments that each expert kept, [E]; of one draw"},
    {"drop_rate", "number", "1", "dropped assignments / all"},
    {"token_drop_rate", "number", "1", "tokens that lost every assignment / T"},
    {"gate_entropy", "number", "nat", "mean over tokens of -sum w ln w over its K weights"},
    {"padding_rows", "integer", "1", "packed rows that hold no token"},
    {"version", "string", "", "of switchyard"},
    {"git_sha", "string", "", "commit it was built from"},
    {"git_dirty", "boolean", "", "built with uncommitted changes"},
    {"timestamp", "string", "", "UTC, ISO 8601, when the cell ended"},
    {"host", "string", "", "host name"},
    {"cpu", "string", "", "CPU model"},
    {"gpu", "string", "", "GPU model"},
    {"compiler", "string", "", "name and version"},
    {"command", "string", "", "the command line"},
    {"drop_policy", "string", "", "which assignments a full expert keeps: position or probs",
     kIdentity},
    {"renormalise", "boolean", "", "kept weights of a token were scaled back to their sum",
     kIdentity},
    {"router_params", "string", "", "knobs of the strategy that are not at their default",
     kIdentity},
    {"activation", "string", "", "of the experts", kIdentity},
    {"gated", "boolean", "", "experts have a gate projection", kIdentity},
    {"library", "string", "", "library an implementation calls, with its version"},
    {"cold", "boolean", "", "caches were flushed before each sample", kIdentity},
    {"memory_bytes", "integer", "bytes", "memory the cell was expected to need"},
    {"batch_size", "integer", "1", "sequences; tokens = batch_size * seq_len", kIdentity},
    {"seq_len", "integer", "1", "tokens of a sequence", kIdentity},
    {"deterministic", "boolean", "", "two runs put every row into the same place"},
    {"bw_GBps_strict", "number", "GB/s", "strict bytes / median, in 1e9 bytes"},
    {"peak_bw_GBps", "number", "GB/s", "bandwidth behind limit_ms"},
    {"peak_bw_source", "string", "",
     "measured (copy or row gather, the faster), or given with --peak-bw-gbs"},
    {"quant_group", "integer", "1", "columns of an int4 weight row that share a scale", kIdentity},
    {"zero_points", "boolean", "", "int4 weights have a zero point for each group", kIdentity},
    {"scale_search", "string", "", "how scales of integer weights were found: absmax or mse",
     kIdentity},
    {"dropless_capacity_factor", "number", "1", "least capacity factor that drops nothing"},
    {"bytes_moved", "number", "bytes", "read and written on the way: copies and padding too"},
    {"causal", "boolean", "",
     "experts and weights do not depend on later tokens, so it can decode"},
    {"router", "string", "", "architecture that makes the logits: linear, mlp or mlp_hadamard",
     kIdentity},
    {"router_hidden", "integer", "1", "R, width of its MLP", kIdentity},
    {"z_loss", "number", "1", "mean over tokens of logsumexp(logits)^2: coefficient 1"},
    {"balance_loss", "number", "1", "E * sum f_i P_i over the batch, coefficient 1; 1 is balanced"},
    {"sequence_balance_loss", "number", "1", "the same by sequence, their mean"},
    {"graph", "boolean", "", "samples are replays of a CUDA graph"},
    {"launch_us", "number", "us",
     "measured time of one small piece of work on the device, in a graph where `graph` says so"},
    {"sm_clock_MHz", "number", "MHz", "clock of the multiprocessors, median over the samples"},
    {"memory_clock_MHz", "number", "MHz", "of the device's memory, the same"},
    {"power_W", "number", "W", "drawn by the device, the same"},
    {"temperature_C", "number", "C", "of the device, the same"},
    {"gpu_driver", "string", "", "version of the driver"},
    {"cuda", "string", "", "version of the CUDA runtime"},
    {"compute_limit_ms", "number", "ms", "flops / peak; limit_ms is the larger of the two"},
    {"memory_limit_ms", "number", "ms", "bytes / bandwidth"},
    {"best_limit_ms", "number", "ms", "limit_ms by the highest ceilings seen between the samples"},
    {"best_fraction_of_limit", "number", "1", "best_limit_ms / min_ms"},
};

bool has_type(const Record& value, std::string_view type) {
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (!value.is_array()) return false;
  for (const auto& element : value) {
    if (!element.is_number()) return false;
  }
  return true;
}

bool is_finite(const Record& value) {
  if (value.is_number_float()) return std::isfinite(value.get<double>());
  if (!value.is_array()) return true;
  for (const auto& element : value) {
    if (!std::isfinite(element.get<double>())) return false;
  }
  return true;
}

std::string article_and(std::string_view type) {
  if (type == "numbers") return "an array of numbers";
  return fmt::format("{} {}", type == "integer" ? "an" : "a", type);
}

}  // namespace

std::span<const RecordField> record_fields() noexcept { return kFields; }

const RecordField* find_record_field(std::string_view name) noexcept {
  for (const auto& field : kFields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

Record in_schema_order(const Record& record) {
  require(record.is_object(), "record is a {}: expected an object", record.type_name());
  for (const auto& [name, value] : record.items()) {
    const RecordField* field = find_record_field(name);
    if (field == nullptr) {
      std::vector<std::string_view> names;
      for (const auto& known : kFields) names.push_back(known.name);
      const auto near = nearest(name, names);
      require(false, "record has unknown field '{}'{}", name,
              near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
    }
    require(has_type(value, field->type), "record field {} is a {}: expected {}", name,
            value.type_name(), article_and(field->type));
    require(is_finite(value), "record field {} is not finite: leave it out and say why in error",
            name);
  }
  Record ordered = Record::object();
  for (const auto& field : kFields) {
    const auto it = record.find(field.name);
    if (it != record.end()) ordered[std::string(field.name)] = *it;
  }
  return ordered;
}

}  // namespace switchyard
