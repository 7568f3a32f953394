#pragma once

#include <array>
#include <memory>
#include <vector>

#include "bench/device_subject.h"
#include "bench/dispatch_inputs.h"
#include "bench/measure.h"

namespace switchyard {

struct PackInputs : DispatchInputs {
  PackInputs(Context& c, const Cell& cell, const RoutingSource& source);

  Matrix x;  ///< [T, H]
};

/// The way in: plan, then token rows to expert rows. cell.impl is one of
/// permute_implementations().
class PackSubject : public Subject {
 public:
  PackSubject(std::shared_ptr<const PackInputs> in, const Cell& cell);

  Check check() override;
  void prepare(std::int64_t i) override { draw_ = in_->draws.wrap(i); }
  void run() override;
  std::span<const Stage> stages() const override;
  void describe(Record& record, const Ceilings& ceilings) const override;

 private:
  std::shared_ptr<const PackInputs> in_;
  Cell cell_;
  Matrix rows_;
  DispatchPlan plan_;
  std::int64_t draw_ = 0;
  std::array<Stage, 2> stages_ = {Stage{"t_plan_ms"}, Stage{"t_pack_ms"}};
};

/// The same on a device.
class DevicePackSubject : public DeviceSubject {
 public:
  DevicePackSubject(std::shared_ptr<const PackInputs> in, const Cell& cell);

  Check check() override;
  void describe(Record& record, const Ceilings& ceilings) const override;

 private:
  std::shared_ptr<const PackInputs> in_;
  Cell cell_;
  DeviceMatrix x_;
  std::vector<DeviceRouting> routings_;
  std::vector<DevicePlan> plans_;
  DeviceMatrix rows_;
};

Cost pack_cost(const Cell& cell, const ExpectedLoad& load);

}  // namespace switchyard
