#include "bench/target.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"
#include "bench/target_list.h"

namespace switchyard {
namespace {

const std::vector<Target>& all_targets() {
  static const std::vector<Target> all = {topk_target(),        router_target(), plan_target(),
                                          select_plan_target(), pack_target(),   combine_target(),
                                          dispatch_target(),    perm_target(),   capacity_target(),
                                          experts_target(),     layer_target()};
  return all;
}

}  // namespace

std::span<const Target> targets() { return all_targets(); }

const Target& find_target(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Target& target : targets()) {
    if (target.name == name) return target;
    names.push_back(target.name);
  }
  throw Error(ErrorCode::invalid_argument, unknown_name("bench target", name, names));
}

std::span<const std::string_view> implementations_of(const Target& target, Device device) {
  if (device == Device::cpu) return target.implementations;
  std::vector<std::string_view> names;
  for (const Target& other : targets()) {
    if (!other.device_implementations.empty()) names.push_back(other.name);
  }
  require(!target.device_implementations.empty(),
          "bench {} does not run on device cuda: expected one of {}", target.name,
          fmt::join(names, ", "));
  return target.device_implementations;
}

void require_implementation(const Target& target, Device device, std::string_view name) {
  const auto known = implementations_of(target, device);
  require(std::find(known.begin(), known.end(), name) != known.end(), "{}",
          unknown_name(fmt::format("implementation of {}{}", target.name,
                                   device == Device::cuda ? " on device cuda" : ""),
                       name, known));
}

}  // namespace switchyard
