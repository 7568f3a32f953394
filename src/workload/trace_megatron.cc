#include <fmt/format.h>

#include "workload/trace_formats.h"

namespace switchyard {
namespace {

/// "3" for a decoder layer, "encoder/3" for another block's, "mtp.0/3" in a multi-token-prediction
/// block.
std::string layer_name(const LineReader& lines, const nlohmann::json& record) {
  std::string name;
  if (record.contains("block") && !record["block"].is_null()) {
    const std::string block = json_string(lines, record, "block");
    if (block != "decoder" && block != "mtp") name += block + "/";
  }
  if (record.contains("mtp_idx") && !record["mtp_idx"].is_null()) {
    name += fmt::format("mtp.{}/", json_integer(lines, record, "mtp_idx"));
  }
  return name + fmt::to_string(json_integer(lines, record, "layer"));
}

/// The same tokens are recorded before and after dispatch when both stages are traced.
bool is_before_dispatch(const LineReader& lines, const nlohmann::json& record) {
  return !record.contains("stage") || json_string(lines, record, "stage") == "pre_dispatch";
}

void check_stated(const LineReader& lines, const nlohmann::json& record, const char* key,
                  std::size_t found, std::string_view what) {
  if (!record.contains(key)) return;
  const std::int64_t stated = json_integer(lines, record, key);
  if (stated != static_cast<std::int64_t>(found)) {
    lines.fail(
        fmt::format("{} is {}: expected {}, the {} of top_indices", key, stated, found, what));
  }
}

}  // namespace

void read_megatron(LineReader& lines, TraceBuilder& builder) {
  std::vector<std::int64_t> ids;
  std::int64_t num_others = 0;
  do {
    const nlohmann::json record = json_object(lines);
    if (!is_before_dispatch(lines, record)) {
      ++num_others;
      continue;
    }
    if (!record.contains("top_indices")) lines.fail("has no 'top_indices'");
    const nlohmann::json& rows = record["top_indices"];
    if (!rows.is_array()) lines.fail("top_indices is not an array: expected one row per token");
    check_stated(lines, record, "num_tokens", rows.size(), "rows");
    const std::string layer = layer_name(lines, record);
    for (const nlohmann::json& row : rows) {
      json_integers(lines, row, "a row of top_indices", ids);
      check_stated(lines, record, "topk", ids.size(), "columns");
      builder.add_token(layer, ids, {});
    }
  } while (lines.next());
  if (num_others > 0) {
    builder.add_note(
        fmt::format("skipped {} records of other stages than pre_dispatch", num_others));
  }
}

}  // namespace switchyard
