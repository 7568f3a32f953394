#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// The values of a numeric option: a comma list of numbers and ranges, in the order given.
///   1,4,16        these
///   64:4096:*2    64, 128, ... up to and including 4096
///   1:10:+3       1, 4, 7, 10
/// Throws Error(invalid_argument) naming the option and the piece that is empty, not a number, out
/// of [least, most], a range that runs backwards or stands still, or more than 100 000 values.
std::vector<std::int64_t> integer_axis(std::string_view option, std::string_view text,
                                       std::int64_t least, std::int64_t most);
std::vector<double> number_axis(std::string_view option, std::string_view text, double least,
                                double most);

/// The names of a comma list. Throws Error(invalid_argument) for an empty one.
std::vector<std::string> name_axis(std::string_view option, std::string_view text);

}  // namespace switchyard
