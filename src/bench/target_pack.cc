// The way in. The implementations differ in how the plan is computed.

#include "bench/pack_subject.h"
#include "bench/target_list.h"
#include "plan/plan_impl.h"

namespace switchyard {
namespace {

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = pack_cost, .prepare = share<PackInputs, PackSubject>, .not_applicable = kNotApplicable};

}  // namespace

Target pack_target() {
  const auto names = plan_implementations();
  return make_target<kMeasurement>("pack", "plan, then token rows to expert rows",
                                   {names.begin(), names.end()});
}

}  // namespace switchyard
