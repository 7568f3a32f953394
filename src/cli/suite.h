#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli {

/// One benchmark of a suite.
struct SuiteLine {
  std::string place;               ///< "FILE:LINE", for errors
  std::vector<std::string> words;  ///< what would follow `switchyard bench`
};

/// The file of a suite. A name with a slash or a dot is a path; any other NAME is
/// bench/suites/NAME.txt in the current folder, or NAME.txt among the suites installed beside the
/// command. Throws Error(invalid_argument) that lists the suites there are.
std::string suite_path(std::string_view name);

/// The lines of a suite: words apart by blanks, quoted by ' or " where they hold one; from a # at
/// the begin of a word on, a line is a comment. Throws Error(io) with the system's reason,
/// Error(invalid_data) naming file and line of an open quote, or the file when it has no benchmark.
std::vector<SuiteLine> read_suite(const std::string& path);

}  // namespace switchyard::cli
