#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "bench/cell.h"
#include "switchyard/context.h"

namespace switchyard {

/// Bytes a cold run reads before each sample: four last-level caches, within 256 MiB and 1 GiB.
std::int64_t cache_flush_bytes() noexcept;

/// Puts caches and threads into the state of a program that has just done something else with as
/// much memory. The buffer is kept, so make one per sweep.
class CacheFlush {
 public:
  /// Throws Error(out_of_memory).
  explicit CacheFlush(Context& context, std::int64_t bytes = cache_flush_bytes());

  /// Lets the threads of libraries come to rest; then every thread of the context reads its part of
  /// the buffer.
  void operator()() noexcept;

  std::int64_t bytes() const noexcept { return bytes_; }
  /// May be overwritten between two uses.
  std::byte* data() noexcept { return buffer_.data(); }

 private:
  Context& context_;
  std::int64_t bytes_;
  Buffer buffer_;
};

/// One of several things measured together.
struct Sampled {
  /// Untimed, before each run. `draw` says which random inputs: equal for all things of a round,
  /// 0, 1, 2, ... for samples, -1, -2, ... for warm-up. May be null.
  std::function<void(std::int64_t draw)> prepare;
  std::function<void()> run;
  /// Milliseconds of the last run where the thing has a clock of its own; null: wall time.
  std::function<std::optional<double>()> own_ms = nullptr;
};

struct Samples {
  std::vector<double> ms;    ///< in the order taken, warm-up left out
  std::exception_ptr error;  ///< what ended this one early; the others went on
};

/// Times each, sample i of all before sample i+1 of any, so that a slow minute of the machine hits
/// all alike. Warm-up: options.warmup runs, or until a run is no longer 5% faster than the best
/// before it. Samples: options.iters, or until every one is settled; never more than
/// options.max_time_s of wall time per thing when the number is ours to choose. `flush` runs after
/// each prepare; null leaves the caches as they are. When `stop` turns true, what was measured so
/// far is returned. `between` runs before the first round and after each; null does nothing.
std::vector<Samples> sample_interleaved(std::span<const Sampled> things, const RunOptions& options,
                                        const std::function<void()>& flush,
                                        const std::function<bool()>& stop,
                                        const std::function<void()>& between = nullptr);

/// The stopping rule: at least 6 samples, taken in at least options.min_time_s with preparation,
/// and a 95% interval of the median no wider than options.confidence times the median; or 5000
/// samples.
bool is_settled(std::span<const double> samples_ms, double spent_s, const RunOptions& options);

}  // namespace switchyard
