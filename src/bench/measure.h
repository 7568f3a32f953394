#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bench/cost.h"
#include "bench/target.h"
#include "switchyard/context.h"

namespace switchyard {

/// A quantity of one run that the subject measured itself: a stage's time, or a share.
struct Stage {
  std::string_view field;  ///< of the record, which gets the median over the samples
  double value = 0;
};

/// An output against its oracle.
struct Check {
  double rel_err = 0;
  double tol = 0;
};

/// Throws Error(check_failed) unless rel_err <= tol.
void require_passed(const Check& check);

/// One implementation of a cell, built and ready to be timed.
class Subject {
 public:
  virtual ~Subject() = default;

  /// Runs draw 0 once and compares what came out with the oracle.
  virtual Check check() = 0;

  /// Selects the inputs of the next run, not timed: 0, 1, ... for samples, below 0 for warm-up.
  virtual void prepare(std::int64_t i) = 0;

  /// What is timed.
  virtual void run() = 0;

  /// Milliseconds of the last run by a clock of the subject's own, a device's; wall time counts
  /// where there is none.
  virtual std::optional<double> own_ms() const { return std::nullopt; }

  /// Whether marking the ends of stages would lengthen what is timed. Then runs that nobody times,
  /// run_stages(), are what stages() speaks of, each prepared as a run is.
  virtual bool runs_stages_apart() const { return false; }
  virtual void run_stages() {}

  /// Of the last run, always the same fields.
  virtual std::span<const Stage> stages() const { return {}; }

  /// Adds what the run was: isa, flops, bytes, limit, load. Means over the draws, but the load
  /// fields, which are draw 0's: that is the one a trace begins with.
  virtual void describe(Record& record, const Ceilings& ceilings) const = 0;
};

class WeightCache;

/// Builds one implementation on what its group shares.
using MakeSubject = std::function<std::unique_ptr<Subject>(const Cell& cell)>;

/// A target's own part of Target::run.
struct Measurement {
  Cost (*cost)(const Cell& cell, const ExpectedLoad& load);
  /// Builds what all implementations share; the result lives as long as the group is measured.
  MakeSubject (*prepare)(Context& context, const Cell& cell, const RoutingSource& source,
                         WeightCache& weights);
  /// The same for cells on a device, whose context has it; null where the target has none.
  MakeSubject (*prepare_on_device)(Context& context, const Cell& cell, const RoutingSource& source,
                                   WeightCache& weights) = nullptr;
  /// Cell fields that mean nothing to the target.
  std::span<const std::string_view> not_applicable;
  bool has_router = false;   ///< runs a router where the routing source has one
  bool has_experts = false;  ///< takes experts from the cache of weights
};

/// Target::cost for any target.
CellCost cost_of(const Measurement& measurement, const Cell& cell);

/// Target::identity for any target.
Record identity_of(const Measurement& measurement, const Cell& cell, const RunOptions& options);

/// Target::run for any target: refuses what does not fit in memory, checks, samples interleaved,
/// fills the records. Implementations that only fit one at a time are measured one at a time.
std::vector<Record> measure(const Measurement& measurement, std::span<const Cell> cells,
                            const RunOptions& options, const Ceilings& ceilings,
                            WeightCache& weights, const std::function<bool()>& stop);

}  // namespace switchyard
