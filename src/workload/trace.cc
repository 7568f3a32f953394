#include "workload/trace.h"

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "workload/trace_formats.h"

namespace switchyard {
namespace {

constexpr std::array<Named<TraceFormat>, 4> kFormatNames = {{
    {TraceFormat::vllm, "vllm"},
    {TraceFormat::megatron, "megatron"},
    {TraceFormat::sglang, "sglang"},
    {TraceFormat::counts, "counts"},
}};

/// A CSV header without blanks and quotes, as loggers differ in both.
std::string bare(std::string_view header) {
  std::string out;
  for (const char c : header) {
    if (c != ' ' && c != '\t' && c != '"') out += c;
  }
  return out;
}

TraceFormat format_of_object(const LineReader& lines) {
  const nlohmann::json record = json_object(lines);
  if (record.contains("top_indices")) return TraceFormat::megatron;
  if (record.contains("topk_ids") || record.value("type", nlohmann::json()) == "meta") {
    return TraceFormat::vllm;
  }
  lines.fail("is a JSON object without 'topk_ids' (vLLM) or 'top_indices' (Megatron-Core)");
}

TraceFormat format_of(const LineReader& lines) {
  const std::string_view first = lines.line();
  if (first.substr(first.find_first_not_of(" \t")).starts_with('{')) return format_of_object(lines);
  constexpr std::size_t kLongestHeader = 200;
  const std::string header = bare(first.substr(0, kLongestHeader));
  if (header == kSglangHeader) return TraceFormat::sglang;
  if (header == kCountsHeader) return TraceFormat::counts;
  lines.fail(
      fmt::format("'{}' begins no known trace: expected a JSON object, or the CSV header {} "
                  "or {}",
                  printable(first), kSglangHeader, kCountsHeader));
}

void read_as(TraceFormat format, LineReader& lines, TraceBuilder& builder) {
  switch (format) {
    case TraceFormat::vllm: return read_vllm(lines, builder);
    case TraceFormat::megatron: return read_megatron(lines, builder);
    case TraceFormat::sglang: return read_sglang(lines, builder);
    case TraceFormat::counts: return read_counts(lines, builder);
  }
}

std::vector<Trace> read(std::istream& in, const std::string& name, TraceBuilder::Keep keep,
                        std::string_view layer) {
  LineReader lines(in, name);
  if (!lines.next()) {
    throw Error(ErrorCode::invalid_data, fmt::format("{}: is empty: expected a trace", name));
  }
  const TraceFormat format = format_of(lines);
  TraceBuilder builder(lines, format, keep, layer);
  read_as(format, lines, builder);
  return builder.finish();
}

std::ifstream open(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error(ErrorCode::io, fmt::format("trace '{}' is a directory: expected a file", path));
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw Error(ErrorCode::io, fmt::format("trace '{}' cannot be opened: {}", path,
                                           std::generic_category().message(errno)));
  }
  return in;
}

}  // namespace

std::string_view name_of(TraceFormat format) noexcept { return name_in(kFormatNames, format); }

Trace read_trace(std::istream& in, const std::string& name, std::string_view layer) {
  const auto keep = layer.empty() ? TraceBuilder::Keep::first : TraceBuilder::Keep::selected;
  return std::move(read(in, name, keep, layer).front());
}

std::vector<Trace> read_trace_layers(std::istream& in, const std::string& name) {
  return read(in, name, TraceBuilder::Keep::all, {});
}

Trace read_trace(const std::string& path, std::string_view layer) {
  std::ifstream in = open(path);
  return read_trace(in, path, layer);
}

std::vector<Trace> read_trace_layers(const std::string& path) {
  std::ifstream in = open(path);
  return read_trace_layers(in, path);
}

}  // namespace switchyard
