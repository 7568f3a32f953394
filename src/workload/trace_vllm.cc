#include <fmt/format.h>

#include "workload/trace_formats.h"

namespace switchyard {
namespace {

/// Loggers disagree on what they write in the meta line; E is used when it is there.
void read_meta(const LineReader& lines, const nlohmann::json& meta, TraceBuilder& builder) {
  for (const char* key : {"num_experts", "n_routed_experts"}) {
    if (meta.contains(key)) builder.set_experts(json_integer(lines, meta, key));
  }
}

}  // namespace

void read_vllm(LineReader& lines, TraceBuilder& builder) {
  std::vector<std::int64_t> ids;
  std::vector<double> weights;
  std::int64_t num_others = 0;
  do {
    const nlohmann::json record = json_object(lines);
    const std::string type = record.contains("type") ? json_string(lines, record, "type") : "route";
    if (type == "meta") {
      read_meta(lines, record, builder);
      continue;
    }
    if (type != "route") {
      ++num_others;
      continue;
    }
    if (!record.contains("topk_ids")) lines.fail("has no 'topk_ids'");
    json_integers(lines, record["topk_ids"], "topk_ids", ids);
    weights.clear();
    if (record.contains("topk_weights")) {
      json_numbers(lines, record["topk_weights"], "topk_weights", weights);
    }
    builder.add_token(fmt::to_string(json_integer(lines, record, "layer")), ids, weights);
  } while (lines.next());
  if (num_others > 0) {
    builder.add_note(fmt::format("skipped {} records that are no routes", num_others));
  }
}

}  // namespace switchyard
