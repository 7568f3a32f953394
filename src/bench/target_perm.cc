// The permutation study: what bringing rows into expert order costs over batch sizes, against the
// bandwidth there is.

#include "bench/pack_subject.h"
#include "bench/permute.h"
#include "bench/target_list.h"

namespace switchyard {
namespace {

/// The same work as the pack target's; the record also says which bandwidth it is held against.
template <class Pack>
class PermSubject final : public Pack {
 public:
  using Pack::Pack;

  void describe(Record& record, const Ceilings& ceilings) const override {
    Pack::describe(record, ceilings);
    if (!(ceilings.rows_bw() > 0)) return;
    record["peak_bw_GBps"] = ceilings.rows_bw() * 1e-9;
    record["peak_bw_source"] = ceilings.bw_is_given ? "given" : "measured";
  }
};

constexpr std::string_view kNotApplicable[] = {"ffn", "weights", "activation", "gated"};
constexpr Measurement kMeasurement = {
    .cost = pack_cost,
    .prepare = share<PackInputs, PermSubject<PackSubject>>,
    .prepare_on_device = share<PackInputs, PermSubject<DevicePackSubject>>,
    .not_applicable = kNotApplicable};

}  // namespace

Target perm_target() {
  return make_target<kMeasurement>("perm", "pack over batch sizes, against the bandwidth there is",
                                   permute_implementations(), {"counting"});
}

}  // namespace switchyard
