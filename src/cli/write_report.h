#pragma once

#include <span>
#include <string>
#include <string_view>

#include "bench/record.h"

namespace switchyard::cli {

/// `path` when it ends in .html or .htm. Throws Error(invalid_argument) naming the option.
std::string report_path(const std::string& path, std::string_view option);

/// The page about `records`, without pictures and with a message where there is no gnuplot.
void write_report(const std::string& path, std::span<const Record> records,
                  const std::string& command);

}  // namespace switchyard::cli
