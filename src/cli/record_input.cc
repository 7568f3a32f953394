#include "cli/record_input.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"
#include "bench/axis.h"
#include "bench/sinks.h"
#include "cli/output.h"

namespace switchyard::cli {

std::vector<Record> read_all_records(std::span<const std::string> files) {
  std::vector<Record> all;
  for (const std::string& file : files) {
    std::int64_t num_torn = 0;
    for (Record& record : read_records(file, &num_torn)) all.push_back(std::move(record));
    if (num_torn > 0) message(fmt::format("{}: {} torn rows are left out", file, num_torn));
  }
  if (all.empty()) {
    throw Error(ErrorCode::invalid_data, fmt::format("no records in {}", fmt::join(files, ", ")));
  }
  return all;
}

std::vector<Match> parse_matches(const std::string& text) {
  std::vector<Match> all;
  for (const std::string& piece : name_axis("FIELD=VALUE", text)) all.push_back(parse_match(piece));
  return all;
}

std::vector<Record> where(std::vector<Record> records, std::span<const Match> conditions) {
  const std::size_t num_before = records.size();
  std::erase_if(records, [&](const Record& record) {
    return std::any_of(conditions.begin(), conditions.end(), [&](const Match& condition) {
      return std::none_of(conditions.begin(), conditions.end(), [&](const Match& other) {
        return other.field == condition.field && matches(record, other);
      });
    });
  });
  require(!records.empty(), "--where leaves none of {} records", num_before);
  return records;
}

}  // namespace switchyard::cli
