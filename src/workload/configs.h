#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace switchyard {

/// The MoE layer of a known model, as `--config` names it.
struct NamedConfig {
  std::string_view name;
  int experts = 0;
  std::int64_t hidden = 0;
  std::int64_t ffn = 0;
  int top_k = 0;
};

std::span<const NamedConfig> named_configs() noexcept;

/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
const NamedConfig& find_config(std::string_view name);

}  // namespace switchyard
