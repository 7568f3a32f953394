#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// Formats of recorded routing, told apart by content.
///   vllm      one JSON object a line and token: layer, topk_ids, perhaps topk_weights; perhaps a
///             first line of type meta
///   megatron  one JSON object a line, step and layer: layer, top_indices [T, K], perhaps block,
///             stage, mtp_idx
///   sglang    CSV layer_id,expert_id,count: loads only
///   counts    CSV model,selection,domain,layer,expert,count: loads only
enum class TraceFormat { vllm, megatron, sglang, counts };

/// "vllm", "megatron", "sglang" or "counts".
std::string_view name_of(TraceFormat format) noexcept;

/// One layer of a recorded trace.
struct Trace {
  std::string file;
  TraceFormat format = TraceFormat::vllm;
  std::string layer;                 ///< "7", "mtp.0/3", "olmoe-1b-7b/topk/wikipedia/7"
  std::int64_t tokens = 0;           ///< T, 0 when only loads were recorded
  int experts = 0;                   ///< E: what the file says, or the largest id + 1
  int top_k = 0;                     ///< K, 0 when only loads were recorded
  std::vector<std::int32_t> expert;  ///< [T, K], distinct within a token
  std::vector<float> weight;         ///< [T, K] >= 0, or empty when not recorded
  std::vector<std::int64_t> load;    ///< [E] assignments of each expert
  std::vector<std::string> notes;    ///< what reading decided, for the user

  bool is_loads_only() const noexcept { return top_k == 0; }
};

/// Reads one layer. `layer` is its name or the last parts of its name ("wikipedia/7"); empty takes
/// the first one and notes it. A run of 16 or more identical rows at the beginning is dropped and
/// noted: an engine's profiling run, not traffic.
/// Throws Error(io) for a file that cannot be read, Error(invalid_data) "FILE:LINE: reason" for one
/// that is no trace, Error(invalid_argument) listing the layers when `layer` names none or several,
/// or is empty and the file holds several models or domains.
Trace read_trace(const std::string& path, std::string_view layer = {});

/// Reads every layer, in the file's order.
std::vector<Trace> read_trace_layers(const std::string& path);

/// The same from a stream; `name` is what errors call it.
Trace read_trace(std::istream& in, const std::string& name, std::string_view layer = {});
std::vector<Trace> read_trace_layers(std::istream& in, const std::string& name);

}  // namespace switchyard
