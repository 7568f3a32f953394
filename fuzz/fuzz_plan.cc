// Bytes become a routing, valid or not, and options: make_plan throws Error where the contract is
// broken and equals the reference everywhere else, on any number of threads.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "plan/plan_impl.h"
#include "plan/plan_reference.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

Routing any_routing(FuzzedDataProvider& bytes) {
  Routing routing;
  routing.num_experts = bytes.ConsumeBool() ? bytes.ConsumeIntegralInRange(1, 40)
                                            : bytes.ConsumeIntegral<std::int16_t>();
  routing.token_begin.push_back(0);
  const auto tokens = bytes.ConsumeIntegralInRange<std::int64_t>(0, 300);
  const bool stay_in_range = bytes.ConsumeBool() && routing.num_experts > 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const int count = bytes.ConsumeIntegralInRange(0, 4);
    const std::int32_t first = bytes.ConsumeIntegral<std::int8_t>();
    for (int k = 0; k < count; ++k) {
      const std::int32_t e = first + k * 5;
      routing.expert.push_back(stay_in_range ? (e + 128) % routing.num_experts : e);
      routing.weight.push_back(bytes.ConsumeIntegral<std::int8_t>() / 16.0f);
    }
    routing.token_begin.push_back(routing.num_assignments());
  }
  routing.num_tokens = tokens;
  return routing;
}

// One field of a possibly valid routing becomes anything.
void break_field(FuzzedDataProvider& bytes, Routing& routing) {
  const auto any_of = [&](auto& values) -> auto& {
    return values[bytes.ConsumeIntegralInRange<std::size_t>(0, values.size() - 1)];
  };
  switch (bytes.ConsumeIntegralInRange(0, 6)) {
    case 0: routing.num_tokens = bytes.ConsumeIntegral<std::int64_t>(); break;
    case 1: any_of(routing.token_begin) = bytes.ConsumeIntegral<std::int64_t>(); break;
    case 2: routing.token_begin.resize(bytes.ConsumeIntegralInRange<std::size_t>(0, 400)); break;
    case 3: routing.weight.resize(bytes.ConsumeIntegralInRange<std::size_t>(0, 400)); break;
    case 4:
      if (!routing.expert.empty()) any_of(routing.expert) = bytes.ConsumeIntegral<std::int32_t>();
      break;
    case 5:
      if (!routing.weight.empty()) any_of(routing.weight) = bytes.ConsumeFloatingPoint<float>();
      break;
    case 6:
      if (!routing.weight.empty()) any_of(routing.weight) = std::nanf("");
      break;
  }
}

PlanOptions any_options(FuzzedDataProvider& bytes) {
  PlanOptions options;
  options.layout = static_cast<Layout>(bytes.ConsumeIntegralInRange(0, 3));
  options.drop_policy = static_cast<DropPolicy>(bytes.ConsumeIntegralInRange(0, 1));
  options.renormalise = bytes.ConsumeBool();
  // A capacity is legally gigabytes: bounded here, so that only the arithmetic is tried.
  options.capacity_factor = bytes.ConsumeIntegralInRange(-2, 64) / 16.0;
  if (bytes.ConsumeBool()) options.capacity_factor = 0;
  options.block_rows = bytes.ConsumeIntegralInRange(-1, 100);
  return options;
}

bool is_valid(const PlanOptions& options) {
  return options.capacity_factor >= 0 &&
         (options.layout != Layout::block || options.block_rows >= 1);
}

void check(bool holds) {
  if (!holds) std::abort();
}

void try_one(FuzzedDataProvider& bytes) {
  Routing routing = any_routing(bytes);
  if (bytes.ConsumeBool()) break_field(bytes, routing);
  const PlanOptions options = any_options(bytes);
  const bool is_planned = is_valid(options) && is_valid_reference(routing);
  const bool drops_by_position =
      options.capacity_factor > 0 && options.drop_policy == DropPolicy::position;
  static Context one({.threads = 1, .isa = {}}), three({.threads = 3, .isa = {}});
  for (const std::string_view implementation : plan_implementations()) {
    const bool in_order = plan_is_deterministic(implementation);
    const bool is_expected = is_planned && (in_order || !drops_by_position);
    for (Context* context : {&one, &three}) {
      DispatchPlan plan;
      try {
        make_plan_with(implementation, *context, routing, options, plan);
      } catch (const Error&) {
        check(!is_expected);
        continue;
      }
      const DispatchPlan reference = plan_reference(routing, options);
      check(is_expected && (in_order ? plans_are_equal(plan, reference)
                                     : plans_agree_in_any_order(routing, plan, reference)));
    }
  }
}

}  // namespace
}  // namespace switchyard

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider bytes(data, size);
  switchyard::try_one(bytes);
  return 0;
}
