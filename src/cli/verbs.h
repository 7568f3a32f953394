#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cli/status.h"

namespace switchyard::cli {

/// A verb of the command, one file each.
struct Verb {
  std::string_view name;
  std::string_view summary;
  /// `command` is the whole command line as typed, for records and hints.
  Status (*run)(std::span<const std::string> args, const std::string& command);
};

Status run_bench(std::span<const std::string> args, const std::string& command);
Status run_compare(std::span<const std::string> args, const std::string& command);
Status run_info(std::span<const std::string> args, const std::string& command);
Status run_layout(std::span<const std::string> args, const std::string& command);
Status run_plan(std::span<const std::string> args, const std::string& command);
Status run_plot(std::span<const std::string> args, const std::string& command);
Status run_report(std::span<const std::string> args, const std::string& command);
Status run_trace(std::span<const std::string> args, const std::string& command);

}  // namespace switchyard::cli
