#include "cli/sweep.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

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

/// The graver of two, in the order that status.h promises.
Status graver(Status a, Status b) {
  constexpr Status kOrder[] = {kInterrupted, kCheckFailed, kNoResource, kUsage, kFailure};
  for (const Status status : kOrder) {
    if (a == status || b == status) return status;
  }
  return kDone;
}

/// Whether `record` is a measurement of the cell that has this identity.
bool is_of(const Record& record, const Record& identity) {
  constexpr const char* kOptional[] = {"config",        "drop_policy", "renormalise",
                                       "router_params", "batch_size",  "seq_len"};
  for (const char* name : kOptional) {
    if (record.contains(name) != identity.contains(name)) return false;
  }
  for (const auto& [name, value] : identity.items()) {
    if (!record.contains(name) || record[name] != value) return false;
  }
  return true;
}

std::string description_of(std::span<const Cell> group) {
  std::vector<std::string_view> impls;
  for (const Cell& cell : group) impls.push_back(cell.impl);
  const Cell& cell = group.front();
  return fmt::format("{} {} T={} H={} E={} K={} {}", cell.bench, fmt::join(impls, ","), cell.tokens,
                     cell.hidden, cell.experts, cell.top_k, cell.routing);
}

/// The ceilings of each thread count, measured or read once.
class CeilingsOf {
 public:
  /// `peak_bw` stands in for every measured bandwidth, where it is given.
  explicit CeilingsOf(std::optional<double> peak_bw) : peak_bw_(peak_bw) {}

  const Ceilings& threads(int count) {
    const auto found = of_threads_.find(count);
    if (found != of_threads_.end()) return found->second;
    Context context({.threads = count, .isa = {}});
    Ceilings& ceilings = of_threads_.emplace(count, ceilings_for(context)).first->second;
    if (peak_bw_) {
      ceilings.read_bw = ceilings.copy_bw = ceilings.gather_bw = *peak_bw_;
      ceilings.bw_is_given = true;
    }
    return ceilings;
  }

 private:
  std::optional<double> peak_bw_;
  std::map<int, Ceilings> of_threads_;
};

std::string resume_hint(const Sweep& sweep) {
  if (!sweep.out) return "interrupted; with --out FILE a sweep can be resumed";
  const bool has_resume = sweep.command.find(" --resume") != std::string::npos;
  return fmt::format("interrupted; to measure the rest:\n  {}{}", sweep.command,
                     has_resume ? "" : " --resume");
}

std::size_t num_cells(const Sweep& sweep) {
  std::size_t count = 0;
  for (const auto& group : sweep.groups) count += group.size();
  return count;
}

Status measure_all(const Sweep& sweep, RecordOutput& output) {
  CeilingsOf ceilings(sweep.peak_bw);
  Progress progress(num_cells(sweep));
  StopSignal stop;
  const auto stopping = [&] {
    progress.tick();
    return stop.requested();
  };
  Status status = kDone;
  for (const auto& group : sweep.groups) {
    progress.begin(description_of(group));
    const Ceilings& limits = ceilings.threads(group.front().threads);
    for (Record& record : sweep.target->run(group, sweep.run, limits, stopping)) {
      if (stop.requested() && !has_run(record)) continue;
      record["command"] = sweep.command;
      progress.clear();
      output.add(in_schema_order(record));
      status = graver(status, status_of_record(record));
    }
    progress.done(group.size());
    if (stop.requested()) return kInterrupted;
    if (!output.file_is_good()) break;
  }
  return status;
}

}  // namespace

std::size_t skip_done(Sweep& sweep, std::span<const Record> records) {
  std::size_t skipped = 0;
  for (auto& group : sweep.groups) {
    skipped += std::erase_if(group, [&](const Cell& cell) {
      const Record identity = sweep.target->identity(cell, sweep.run);
      return std::any_of(records.begin(), records.end(), [&](const Record& record) {
        return record.value("ok", false) && is_of(record, identity);
      });
    });
  }
  std::erase_if(sweep.groups, [](const auto& group) { return group.empty(); });
  return skipped;
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
  for (const auto& group : sweep.groups) {
    for (const Cell& cell : group) {
      const CellCost cost = sweep.target->cost(cell);
      Record record = sweep.target->identity(cell, sweep.run);
      record["memory_bytes"] = cost.memory_bytes;
      record["flops"] = cost.flops;
      record["bytes"] = cost.bytes;
      output.add(in_schema_order(record));
    }
  }
  output.finish();
}

}  // namespace switchyard::cli
