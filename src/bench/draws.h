#pragma once

#include <functional>
#include <vector>

#include "base/buffer.h"
#include "bench/cell.h"
#include "switchyard/context.h"
#include "switchyard/routing.h"
#include "switchyard/view.h"
#include "workload/source.h"

namespace switchyard {

/// Inputs are drawn this often before the first sample and samples take them in turn, so that none
/// finds the routing of the one before it in a cache or a branch predictor. 8 up to 2048 tokens;
/// fewer beyond, to 2: more tokens than any predictor remembers, and memory that grows with T.
std::int64_t num_draws(const Cell& cell);

/// The strategy a cell names, for the parameters it gives.
Strategy strategy_of(const Cell& cell);

/// What the sources of the workload want to know of a cell.
WorkloadShape shape_of(const Cell& cell);

/// The routings of a cell, drawn ahead: logits and what the strategy makes of them, or the
/// assignments of a trace, for which there are no logits.
class Draws {
 public:
  /// The first `count` draws. Throws Error(invalid_argument, invalid_data, io) for the source.
  Draws(Context& context, const Cell& cell, const RoutingSource& source, std::int64_t count);

  /// The same with logits that somebody else computes into [T, E] f32.
  using FillLogits = std::function<void(std::int64_t draw, MatrixView logits)>;
  Draws(Context& context, const Cell& cell, std::int64_t count, const FillLogits& fill);

  std::int64_t count() const noexcept { return static_cast<std::int64_t>(routings_.size()); }
  /// The draw of sample i; warm-up counts from -1 down.
  std::int64_t wrap(std::int64_t i) const noexcept { return (i % count() + count()) % count(); }
  bool has_logits() const noexcept { return !logits_.empty(); }

  /// [T, E] f32.
  ConstMatrixView logits(std::int64_t draw) const;
  RouterInput input(std::int64_t draw) const {
    return {.logits = logits(draw), .bias = {}, .token_ids = {}};
  }
  const Routing& routing(std::int64_t draw) const {
    return routings_[static_cast<std::size_t>(draw)];
  }

 private:
  void draw_logits(Context& context, const Cell& cell, std::int64_t count, const FillLogits& fill);

  std::int64_t tokens_, experts_;
  std::vector<Buffer> logits_;
  std::vector<Routing> routings_;
};

}  // namespace switchyard
