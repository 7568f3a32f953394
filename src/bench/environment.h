#pragma once

#include <span>
#include <string>

#include "bench/record.h"

namespace switchyard {

/// Now, in UTC: "2026-01-31T23:59:59Z".
std::string timestamp_now();

/// The host's name, "" when it has none.
std::string host_name();

/// State of transparent huge pages: "always", "madvise", "never", or "unknown". `root` stands
/// before /sys, for tests.
std::string huge_page_state(const std::string& root = "");

/// Arguments as a shell would take them back.
std::string command_line(std::span<const char* const> arguments);

/// Writes schema, version, git_sha, git_dirty, timestamp, host, cpu, compiler and, unless empty,
/// command.
void add_environment(Record& record, const std::string& command);

}  // namespace switchyard
