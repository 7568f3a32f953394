#include "cli/sweep.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <regex>
#include <set>

#include "base/check.h"
#include "bench/device_limits.h"
#include "bench/device_state.h"
#include "bench/identity.h"
#include "bench/weight_cache.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

constexpr ErrorCode kErrorCodes[] = {
    ErrorCode::invalid_argument, ErrorCode::invalid_data, ErrorCode::io,
    ErrorCode::out_of_memory,    ErrorCode::unavailable,  ErrorCode::check_failed};

/// What a record tells the shell.
Status status_of_record(const Record& record) {
  if (record.value("ok", false)) return kDone;
  const std::string name = record.value("error_code", "");
  for (const ErrorCode code : kErrorCodes) {
    if (name_of(code) == name) return status_of(code);
  }
  return kFailure;
}

/// False for a cell that the interruption left without a sample.
bool has_run(const Record& record) {
  return record.contains("median_ms") || record.contains("error_code");
}

/// Leaves only cells of which keep(line) is true. Returns how many went.
template <class Keep>
std::size_t keep_cells(Sweep& sweep, Keep&& keep) {
  std::size_t num_gone = 0;
  for (SweepPart& part : sweep.parts) {
    for (auto& group : part.groups) {
      num_gone += std::erase_if(group, [&](const Cell& cell) {
        return !keep(cell_line(part.target->identity(cell, part.run)));
      });
    }
    std::erase_if(part.groups, [](const auto& group) { return group.empty(); });
  }
  return num_gone;
}

std::string description_of(std::span<const Cell> group) {
  std::vector<std::string_view> impls;
  for (const Cell& cell : group) impls.push_back(cell.impl);
  const Cell& cell = group.front();
  return fmt::format("{} {} T={} H={} E={} K={} {}", cell.bench, fmt::join(impls, ","), cell.tokens,
                     cell.hidden, cell.experts, cell.top_k, cell.routing);
}

Ceilings measured_ceilings(Device device, int threads) {
  Context context({.threads = threads, .isa = {}, .device = device});
  if (device == Device::cpu) return ceilings_for(context);
  return ceilings_of(measure_device_ceilings(context), isa_of(cuda::gpu_of(context).info()));
}

/// The ceilings of each thread count, measured or read once, and of the device, measured once.
class CeilingsOf {
 public:
  /// `peak_bw` stands in for every measured bandwidth, where it is given.
  Ceilings cell(const Cell& cell, std::optional<double> peak_bw) {
    const int threads = cell.device == Device::cpu ? cell.threads : 1;
    auto found = known_.find({cell.device, threads});
    if (found == known_.end()) {
      found =
          known_.emplace(std::pair(cell.device, threads), measured_ceilings(cell.device, threads))
              .first;
    }
    Ceilings ceilings = found->second;
    if (peak_bw) {
      ceilings.read_bw = ceilings.copy_bw = ceilings.gather_bw = *peak_bw;
      ceilings.write_bw = 0;
      ceilings.bw_is_given = true;
    }
    return ceilings;
  }

 private:
  std::map<std::pair<Device, int>, Ceilings> known_;
};

std::string resume_hint(const Sweep& sweep) {
  if (!sweep.out) return "interrupted; with --out FILE a sweep can be resumed";
  const bool has_resume = sweep.command.find(" --resume") != std::string::npos;
  return fmt::format("interrupted; to measure the rest:\n  {}{}", sweep.command,
                     has_resume ? "" : " --resume");
}

std::size_t num_cells(const Sweep& sweep) {
  std::size_t count = 0;
  for_each_cell(sweep, [&](const SweepPart&, const Cell&) { ++count; });
  return count;
}

Status measure_all(const Sweep& sweep, RecordOutput& output) {
  CeilingsOf ceilings;
  WeightCache weights;
  Progress progress(num_cells(sweep));
  StopSignal stop;
  const auto stopping = [&] {
    progress.tick();
    return stop.requested();
  };
  Status status = kDone;
  for (const SweepPart& part : sweep.parts) {
    for (const auto& group : part.groups) {
      progress.begin(description_of(group));
      const Ceilings limits = ceilings.cell(group.front(), part.peak_bw);
      for (Record& record : part.target->run(group, part.run, limits, weights, stopping)) {
        if (stop.requested() && !has_run(record)) continue;
        record["command"] = sweep.command;
        progress.clear();
        output.add(in_schema_order(record));
        status = graver(status, status_of_record(record));
      }
      progress.done(group.size());
      if (stop.requested()) return kInterrupted;
      if (!output.file_is_good()) return status;
    }
  }
  return status;
}

}  // namespace

std::vector<std::string> cell_lines(const Sweep& sweep) {
  std::vector<std::string> lines;
  for_each_cell(sweep, [&](const SweepPart& part, const Cell& cell) {
    lines.push_back(cell_line(part.target->identity(cell, part.run)));
  });
  return lines;
}

std::size_t drop_repeated(Sweep& sweep) {
  std::set<std::string> seen;
  return keep_cells(sweep, [&](const std::string& line) { return seen.insert(line).second; });
}

void keep_matching(Sweep& sweep, const std::string& regex) {
  std::regex pattern;
  try {
    pattern.assign(regex, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--filter '{}' is no regular expression: {}", regex, error.what()));
  }
  keep_cells(sweep, [&](const std::string& line) { return std::regex_search(line, pattern); });
  require(num_cells(sweep) > 0, "--filter '{}' matches no cell: --list shows their lines", regex);
}

Skipped skip_done(Sweep& sweep, std::span<const Record> records, bool retry_failed) {
  std::map<std::string, Status> status_of_line;  // of several records the best
  for (const Record& record : records) {
    const Status status = status_of_record(record);
    const auto [found, is_new] = status_of_line.emplace(cell_line(record), status);
    if (!is_new && status == kDone) found->second = kDone;
  }
  Skipped skipped;
  keep_cells(sweep, [&](const std::string& line) {
    const auto found = status_of_line.find(line);
    if (found == status_of_line.end()) return true;
    if (found->second != kDone && retry_failed) return true;
    ++(found->second == kDone ? skipped.num_ok : skipped.num_failed);
    skipped.status = graver(skipped.status, found->second);
    return false;
  });
  return skipped;
}

Status graver(Status a, Status b) {
  constexpr Status kOrder[] = {kInterrupted, kCheckFailed, kNoResource, kUsage, kFailure};
  for (const Status status : kOrder) {
    if (a == status || b == status) return status;
  }
  return kDone;
}

Status run_sweep(const Sweep& sweep, RecordOutput& output) {
  Status status = kDone;
  try {
    status = measure_all(sweep, output);
  } catch (const std::exception&) {
    output.finish();  // what was measured is not lost
    throw;
  }
  output.finish();
  if (status == kInterrupted) message(resume_hint(sweep));
  return status;
}

void dry_run(const Sweep& sweep, RecordOutput& output) {
  for_each_cell(sweep, [&](const SweepPart& part, const Cell& cell) {
    const CellCost cost = part.target->cost(cell);
    Record record = part.target->identity(cell, part.run);
    record["memory_bytes"] = cost.memory_bytes;
    record["flops"] = cost.flops;
    record["bytes"] = cost.bytes;
    output.add(in_schema_order(record));
  });
  output.finish();
}

}  // namespace switchyard::cli
