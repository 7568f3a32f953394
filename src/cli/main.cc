// The command: finds the verb, runs it, and turns whatever it throws into a sentence and a status.

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <vector>

#include "base/names.h"
#include "bench/environment.h"
#include "cli/output.h"
#include "cli/parts.h"
#include "cli/verbs.h"
#include "switchyard/context.h"
#include "switchyard/version.h"

namespace switchyard::cli {
namespace {

constexpr Verb kVerbs[] = {
    {"bench", "measures a part of the layer, checked and beside its limit", run_bench},
    {"compare", "what two files of records say about the same cells", run_compare},
    {"info", "this machine, this build and the kernels it chooses", run_info},
    {"layout", "where each element lies: an expression, or the library's own layouts", run_layout},
    {"plan", "routes one workload and shows where every row goes", run_plan},
    {"plot", "draws records: time, throughput, limits, drops, load, speed-up", run_plot},
    {"report", "one HTML page about records: what they say, tables, pictures", run_report},
    {"trace", "how evenly a recorded routing trace loads its experts", run_trace},
};

std::string help() {
  std::string out =
      "switchyard bench layer --config olmoe --tokens 1,64,1024 --impl loop,padded,grouped\n"
      "\n"
      "Mixture-of-Experts layers, taken apart, fast, measured and comparable.\n"
      "\n"
      "Usage: switchyard VERB [ARGUMENTS] [OPTIONS]\n"
      "\n"
      "Verbs (`switchyard VERB --help` has examples and options):\n";
  for (const Verb& verb : kVerbs) out += fmt::format("  {:<8}{}\n", verb.name, verb.summary);
  out +=
      "\n"
      "Options:\n"
      "  --help      this text\n"
      "  --version   version, commit, compiler and optional parts\n"
      "\n"
      "Environment:\n"
      "  SWITCHYARD_MAX_ISA  the highest instruction set to use:";
  for (const Isa isa : kAllIsas) out += fmt::format(" {}", name_of(isa));
  out +=
      "\n\n"
      "Exit status: 0 done, 1 failure, 2 usage or bad input, 3 an output failed its check,\n"
      "4 `compare` found a regression, 5 not enough memory or no such device, 130 interrupted.\n"
      "When cells of a sweep fail in several ways, the first of 130, 3, 5, 2, 1 that applies.\n";
  return out;
}

std::string version_text() {
  std::string out = fmt::format("switchyard {}\ncommit {}{}\n{}\n", version(), git_sha(),
                                git_is_dirty() ? " (modified)" : "", compiler());
  for (const Part& part : parts()) {
    out += fmt::format("{} {}\n", part.found ? "with" : "without", part.name);
  }
  return out;
}

std::string command_of(std::span<const std::string> args) {
  std::vector<const char*> words = {"switchyard"};
  for (const std::string& arg : args) words.push_back(arg.c_str());
  return command_line(words);
}

const Verb& find_verb(std::string_view name) {
  const auto* verb = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                  [&](const Verb& v) { return v.name == name; });
  if (verb != std::end(kVerbs)) return *verb;
  std::vector<std::string_view> names;
  for (const Verb& v : kVerbs) names.push_back(v.name);
  throw Error(ErrorCode::invalid_argument, unknown_name("verb", name, names));
}

Status run(std::span<const std::string> args) {
  if (args.empty()) {
    message(help());
    return kUsage;
  }
  if (args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    print(help());
    return kDone;
  }
  if (args[0] == "--version" || args[0] == "-V") {
    print(version_text());
    return kDone;
  }
  default_isa();  // an environment that names no ISA is refused before any work
  return find_verb(args[0]).run(args.subspan(1), command_of(args));
}

}  // namespace
}  // namespace switchyard::cli

int main(int argc, char** argv) {
  using namespace switchyard;
  cli::prepare_streams();
  try {
    return cli::run(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  } catch (const cli::ClosedPipe&) {
    return cli::kFailure;
  } catch (const Error& error) {
    cli::message(fmt::format("switchyard: {}", error.what()));
    return cli::status_of(error.code());
  } catch (const std::bad_alloc&) {
    cli::message("switchyard: out of memory");
    return cli::kNoResource;
  } catch (const std::exception& error) {
    cli::message(fmt::format("switchyard: {}", error.what()));
    return cli::kFailure;
  }
}
