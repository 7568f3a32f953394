#include <fmt/format.h>

#include "base/cpu.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/parts.h"
#include "cli/verbs.h"
#include "switchyard/context.h"

namespace switchyard::cli {
Status run_info(std::span<const std::string> args, const std::string&) {
  CommandLine line{.verb = "info",
                   .summary = "Prints this machine.",
                   .examples = {"info"},
                   .positionals = {},
                   .groups = {}};
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  print(cpu_name() + "\n");
  return kDone;
}
}  // namespace switchyard::cli
