#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/record.h"
#include "report/picture.h"
#include "report/series.h"
#include "switchyard/routing.h"

namespace switchyard {

enum class PlotKind {
  latency,     ///< where the time goes: stage times, stacked
  throughput,  ///< tokens per second over an axis
  efficiency,  ///< achieved against the limit: a roofline where flops and bytes are known
  drop,        ///< dropped assignments over the capacity factor
  load,        ///< how many assignments each expert has
  speedup,     ///< times a baseline
  perm,        ///< latency, effective bandwidth and efficiency of permutations
};

struct PlotKindInfo {
  PlotKind kind;
  std::string_view name;     ///< "latency"
  std::string_view summary;  ///< one line
};

/// Every kind, in the order of the enum.
std::span<const PlotKindInfo> plot_kinds() noexcept;

/// Throws Error(invalid_argument) that lists the names.
PlotKind plot_kind_from_name(std::string_view name);

struct PlotOptions {
  std::string x;                ///< numeric field of the x axis; empty: the one that varies most
  std::vector<std::string> by;  ///< fields that make the series; empty: impl
  std::vector<Match> baseline;  ///< of speedup; records that match all
};

/// Records that failed or lack what the kind shows are left out, and the subtitle says how many.
/// Series are told apart by `by` and whatever else differs, so no two measurements fall together.
/// Throws Error(invalid_argument) naming what is missing when nothing is left to draw, a field does
/// not exist, or there are more series than eyes can tell apart.
Picture picture_of(PlotKind kind, std::span<const Record> records, const PlotOptions& options);

/// The load of each expert and a map of tokens against experts. `source` says where it comes from.
Picture picture_of_load(const Routing& routing, const std::string& source);

/// The same from counts alone, without the map.
Picture picture_of_load(std::span<const std::int64_t> load, const std::string& source);

/// Draws picture_of() into a file as draw() does.
void plot(PlotKind kind, std::span<const Record> records, const PlotOptions& options,
          const std::string& path);

}  // namespace switchyard
