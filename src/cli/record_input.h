#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/record.h"
#include "report/series.h"

namespace switchyard::cli {

/// The records of all files, in order; says on standard error which files have torn rows.
/// Throws as read_records does, and Error(invalid_data) when there is no record at all.
std::vector<Record> read_all_records(std::span<const std::string> files);

/// "impl=loop,dtype=bf16". Throws Error(invalid_argument) as parse_match does.
std::vector<Match> parse_matches(const std::string& text);

/// The records that match one of the values given for each field.
/// Throws Error(invalid_argument) when none does.
std::vector<Record> where(std::vector<Record> records, std::span<const Match> conditions);

}  // namespace switchyard::cli
