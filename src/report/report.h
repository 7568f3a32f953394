#pragma once

#include <span>
#include <string>

#include "bench/record.h"

namespace switchyard {

struct ReportOptions {
  std::string command = {};  ///< that makes the report, shown at its end
  bool pictures = true;      ///< false where there is no gnuplot: the report says so
};

/// One HTML page that needs nothing else: a reading in plain words, environments, tables, pictures
/// and every record. Whatever records hold is shown as text. Throws Error(invalid_argument) when
/// there are no records, and as image_of does.
std::string report_of(std::span<const Record> records, const ReportOptions& options);

}  // namespace switchyard
