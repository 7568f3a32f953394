#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "switchyard/context.h"
#include "switchyard/dtype.h"

namespace switchyard {

/// What this machine can do, measured. Bandwidths in bytes/s of useful traffic, peaks in flop/s.
struct Ceilings {
  int threads = 0;         ///< the "all" of the fields below
  double read_bw_one = 0;  ///< one thread reading memory
  double read_bw = 0;      ///< all threads reading memory
  double write_bw = 0;     ///< all threads writing memory that they do not read
  double copy_bw_one = 0;  ///< read + written bytes per second
  double copy_bw = 0;
  double gather_bw = 0;       ///< copying random rows of 4 KiB and more: read + written
  bool bw_is_given = false;   ///< the bandwidths are the user's word, not measured
  double fork_join_s = 0;     ///< one empty parallel region
  double launch_s = 0;        ///< of a device: one piece of work in a stream
  double graph_launch_s = 0;  ///< the same in a graph
  /// Matrix peak by "<isa>/<dtype>", all threads: "amx_bf16/bf16", "avx512/f32", "portable/f32",
  /// "sm_90/bf16".
  std::map<std::string, double> peak_flops;

  /// Rows moved to other places: pack reads tokens in order and scatters what it writes, or the
  /// other way round, so the faster of a copy and a gather bounds it.
  double rows_bw() const { return copy_bw > gather_bw ? copy_bw : gather_bw; }

  /// The peak of a kernel: of its dtype where the ISA has instructions for it, of f32, in which
  /// other types are computed, where it has not; of f32 on AMX a sixth of that of bf16, of which it
  /// takes six products. Nothing when none of these was measured.
  std::optional<double> peak(std::string_view isa, std::string_view dtype) const;
};

/// Measures everything: a few seconds. Peaks only of ISAs this machine can run.
Ceilings measure_ceilings(Context& context);

/// From the user's cache folder ($XDG_CACHE_HOME or ~/.cache, under switchyard/) when it was
/// measured by this version on this hardware with this thread count and ISA cap; measured and kept
/// otherwise, or when `again`. A cache that cannot be read or written is not an error.
Ceilings ceilings_for(Context& context, bool again = false);

/// limit = max(flops / peak, bytes / bandwidth).
struct Limit {
  double compute_ms = 0, memory_ms = 0;

  double ms() const noexcept { return compute_ms > memory_ms ? compute_ms : memory_ms; }
  std::string_view kind() const noexcept { return compute_ms > memory_ms ? "compute" : "memory"; }
};

/// A ceiling that was not measured (0) limits nothing.
Limit limit_of(double flops, double peak_flops, double bytes, double bandwidth) noexcept;

}  // namespace switchyard
