#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli {

/// Rows of a text table, two spaces between columns. `alignment` has 'l' or 'r' for each column;
/// columns beyond it are aligned right.
std::string aligned(const std::vector<std::vector<std::string>>& rows, std::string_view alignment);

/// "512 B", "48 KiB", "1.46 GiB"
std::string human_bytes(double bytes);

/// "512", "1.64 M", "2.10 G": powers of 1000
std::string human_count(double count);

}  // namespace switchyard::cli
