#pragma once

#include "bench/measure.h"
#include "bench/target.h"

namespace switchyard {

/// One function per file target_*.cc; target.cc lists them.
Target topk_target();
Target router_target();
Target plan_target();
Target select_plan_target();
Target pack_target();
Target combine_target();
Target dispatch_target();
Target perm_target();
Target capacity_target();
Target experts_target();
Target layer_target();

template <const Measurement& kMeasurement>
Target make_target(std::string_view name, std::string_view summary,
                   std::vector<std::string_view> implementations,
                   std::vector<std::string_view> device_implementations = {}) {
  return {name,
          summary,
          std::move(implementations),
          std::move(device_implementations),
          [](const Cell& cell) { return cost_of(kMeasurement, cell); },
          [](const Cell& cell, const RunOptions& options) {
            return identity_of(kMeasurement, cell, options);
          },
          [](std::span<const Cell> cells, const RunOptions& options, const Ceilings& ceilings,
             WeightCache& weights, const std::function<bool()>& stop) {
            return measure(kMeasurement, cells, options, ceilings, weights, stop);
          }};
}

/// Measurement::prepare for a target whose Inputs(context, cell, source) are shared by all
/// Subjects.
template <class Inputs, class AnySubject>
MakeSubject share(Context& context, const Cell& cell, const RoutingSource& source, WeightCache&) {
  const auto inputs = std::make_shared<Inputs>(context, cell, source);
  return [inputs](const Cell& c) { return std::make_unique<AnySubject>(inputs, c); };
}

/// The same where they take experts.
template <class Inputs, class AnySubject>
MakeSubject share_with_experts(Context& context, const Cell& cell, const RoutingSource& source,
                               WeightCache& weights) {
  const auto inputs = std::make_shared<Inputs>(context, cell, source, weights);
  return [inputs](const Cell& c) { return std::make_unique<AnySubject>(inputs, c); };
}

}  // namespace switchyard
