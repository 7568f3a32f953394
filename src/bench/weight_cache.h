#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "bench/expert_inputs.h"

namespace switchyard {

/// The weights of a sweep's last group of cells and what implementations made of them, kept for the
/// next one: making and prepacking them takes far longer than measuring, and cells that differ in
/// tokens, routing or layout have the same ones. One set of weights at a time.
class WeightCache {
 public:
  /// Lets go of everything that these cells, which differ in impl only, have no use for; of
  /// everything where there are none. Experts on a device belong to the context of their group:
  /// they are let go of too.
  void keep_for(std::span<const Cell> cells);

  /// Bytes held.
  std::int64_t bytes() const;

  /// Bytes beside what the group needs. They may hold what is otherwise made anew for each use:
  /// integers, before any implementation's own order. What is held and has no room is let go of.
  void set_spare(std::int64_t bytes);

  /// The weights of a cell of the group that keep_for was told of; made when they are not there.
  std::shared_ptr<const RawExperts> raw(Context& context, const Cell& cell);

  /// The same of the experts of cell.impl. One cell may use them at a time.
  std::shared_ptr<Experts> experts(Context& context, const Cell& cell);

  /// Bytes of such integers.
  std::int64_t spare_bytes() const { return raw_ ? raw_->spare_bytes() : 0; }

  /// Bytes prepacked for an implementation, 0 when there are none.
  std::int64_t bytes_of(std::string_view impl) const;

 private:
  std::string key_;  ///< everything but impl that decides what is held
  std::int64_t spare_ = 0;
  std::shared_ptr<const RawExperts> raw_;
  std::map<std::string, std::shared_ptr<Experts>, std::less<>> experts_of_impl_;
};

}  // namespace switchyard
