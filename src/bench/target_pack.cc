// The way in. The implementations differ in how they find a row's place, and when they copy it.

#include "bench/pack_subject.h"
#include "bench/permute.h"
#include "bench/target_list.h"

namespace switchyard {
namespace {

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {.cost = pack_cost,
                                      .prepare = share<PackInputs, PackSubject>,
                                      .prepare_on_device = share<PackInputs, DevicePackSubject>,
                                      .not_applicable = kNotApplicable};

}  // namespace

Target pack_target() {
  return make_target<kMeasurement>("pack", "plan, then token rows to expert rows",
                                   permute_implementations(), {"counting"});
}

}  // namespace switchyard
