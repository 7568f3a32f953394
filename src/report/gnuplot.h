#pragma once

#include <string>

namespace switchyard {

/// What gnuplot writes to standard output when it is given this script. The user's ~/.gnuplot is
/// not read. Throws Error(unavailable) when there is no program gnuplot, Error(io) with its words
/// when it fails.
std::string run_gnuplot(const std::string& script);

}  // namespace switchyard
