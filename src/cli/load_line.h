#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace switchyard::cli {

/// One line of bars, one column per expert; from 65 experts on a column is the busiest of several
/// neighbours. The highest bar is the busiest expert.
std::string load_line(std::span<const std::int64_t> load);

}  // namespace switchyard::cli
