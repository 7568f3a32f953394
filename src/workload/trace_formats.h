#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "workload/trace_builder.h"
#include "workload/trace_lines.h"

namespace switchyard {

/// One reader per format, in trace_<format>.cc. Each starts at the line `lines` is at and goes to
/// the end of the stream; a damaged line throws Error(invalid_data).
void read_vllm(LineReader& lines, TraceBuilder& builder);
void read_megatron(LineReader& lines, TraceBuilder& builder);
void read_sglang(LineReader& lines, TraceBuilder& builder);
void read_counts(LineReader& lines, TraceBuilder& builder);

inline constexpr std::string_view kSglangHeader = "layer_id,expert_id,count";
inline constexpr std::string_view kCountsHeader = "model,selection,domain,layer,expert,count";

/// The current line as a JSON object.
nlohmann::json json_object(const LineReader& lines);

/// Fields of a JSON object; absent or of another type fails.
std::int64_t json_integer(const LineReader& lines, const nlohmann::json& object, const char* key);
std::string json_string(const LineReader& lines, const nlohmann::json& object, const char* key);
void json_integers(const LineReader& lines, const nlohmann::json& array, std::string_view name,
                   std::vector<std::int64_t>& out);
void json_numbers(const LineReader& lines, const nlohmann::json& array, std::string_view name,
                  std::vector<double>& out);

/// The current line cut at commas, blanks around fields stripped. Fails unless there are `count`.
std::vector<std::string_view> csv_fields(const LineReader& lines, std::size_t count);
std::int64_t csv_integer(const LineReader& lines, std::string_view name, std::string_view field);

}  // namespace switchyard
