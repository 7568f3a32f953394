#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "switchyard/load.h"
#include "workload/trace.h"

namespace switchyard {

/// What one layer of a trace looks like.
struct TraceStats {
  std::string layer;
  std::int64_t tokens = 0;  ///< 0 when only loads were recorded
  std::int64_t assignments = 0;
  int experts = 0;
  int top_k = 0;  ///< 0 when only loads were recorded
  LoadStats load;
};

TraceStats trace_stats(const Trace& trace);

enum class BarOrder { by_expert, by_load };

/// The load as a bar chart of at most `width` columns of text and a few lines, for a terminal:
/// heights are relative to the mean load, which the axis on the left counts in. Where experts
/// outnumber columns, a column shows the fullest of its neighbours, so that no hot one is hidden.
/// Throws Error(invalid_argument) for no experts, a negative load or a width below 20.
std::string load_picture(std::span<const std::int64_t> load, int width, BarOrder order);

}  // namespace switchyard
