#include "bench/target.h"

#include <algorithm>

#include "base/check.h"
#include "bench/target_list.h"

namespace switchyard {
namespace {

const std::vector<Target>& all_targets() {
  static const std::vector<Target> all = {topk_target(),     router_target(),   pack_target(),
                                          combine_target(),  dispatch_target(), perm_target(),
                                          capacity_target(), experts_target(),  layer_target()};
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

void require_implementation(const Target& target, std::string_view name) {
  const auto& known = target.implementations;
  require(std::find(known.begin(), known.end(), name) != known.end(), "{}",
          unknown_name(fmt::format("implementation of {}", target.name), name, known));
}

}  // namespace switchyard
