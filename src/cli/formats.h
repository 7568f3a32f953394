#pragma once

#include <string>

#include "cli/command_line.h"

namespace switchyard::cli {

/// What verbs that print one thing can print it as.
enum class PrintFormat { table, json };

/// "-o table|json"
Option print_format_option(PrintFormat& format);

}  // namespace switchyard::cli
