#include "workload/configs.h"

#include <array>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr std::array<NamedConfig, 8> kConfigs = {{
    // name, E, H, F, K
    {"mixtral", 8, 4096, 14336, 2},
    {"deepseek", 64, 4096, 11008, 8},
    {"glm5", 128, 5120, 13696, 8},
    {"debug", 4, 512, 1024, 2},
    {"olmoe", 64, 2048, 1024, 8},
    {"qwen3-30b", 128, 2048, 768, 8},
    {"deepseek-v3", 256, 7168, 2048, 8},
    {"qwen3-235b", 128, 4096, 1536, 8},
}};

}  // namespace

std::span<const NamedConfig> named_configs() noexcept { return kConfigs; }

const NamedConfig& find_config(std::string_view name) {
  std::array<std::string_view, kConfigs.size()> names;
  for (std::size_t i = 0; i < kConfigs.size(); ++i) {
    if (kConfigs[i].name == name) return kConfigs[i];
    names[i] = kConfigs[i].name;
  }
  throw Error(ErrorCode::invalid_argument, unknown_name("config", name, names));
}

}  // namespace switchyard
