#pragma once

#include <string_view>
#include <vector>

#include "bench/dispatch_inputs.h"
#include "bench/record.h"
#include "switchyard/experts.h"

namespace switchyard {

/// Random weights of E experts, before any implementation's own order. Their scale, 1 / sqrt of a
/// row's width, keeps every activation near 1.
class RawExperts {
 public:
  RawExperts(Context& context, const Cell& cell);

  const ExpertWeights& weights() const noexcept { return weights_; }

 private:
  Matrix gate_, up_, down_;  // [E*F, H], [E*F, H], [E*H, F]
  ExpertWeights weights_;
};

/// Implementations of the experts, ours first.
std::vector<std::string_view> expert_implementations_ours_first();

/// isa, and library where the implementation calls one.
void add_kernel(Record& record, const Experts& experts);

}  // namespace switchyard
