#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/record.h"
#include "report/picture.h"

namespace switchyard {

/// "impl=loop"
struct Match {
  std::string field;
  std::string value;

  bool operator==(const Match&) const = default;
};

/// Throws Error(invalid_argument) unless `text` is FIELD=VALUE with a field of the schema.
Match parse_match(std::string_view text);

/// Whether the record's value, as text_of gives it, is the one asked for.
bool matches(const Record& record, const Match& match);

/// Records by series, as indices.
struct Grouping {
  std::vector<std::string> by;  ///< the fields that tell the series apart, those asked for first
  struct Group {
    std::string name;
    std::vector<std::int64_t> records;  ///< ascending in x
  };
  std::vector<Group> groups;  ///< in the order of their first records
};

/// One record at each x of a series: where `by` does not tell records of one x apart, the naming
/// fields that do are added to it; where nothing does, they repeat a measurement and the last one
/// stands. `used` are indices into `records`, each with a number in field `x`; an empty `x` takes
/// every record as a series of its own.
Grouping group_records(std::span<const Record> records, std::span<const std::int64_t> used,
                       std::string_view x, std::span<const std::string> by);

/// The numeric axis that varies most among the records: `preferred` where it varies at all.
std::string widest_axis(std::span<const Record> records, std::span<const std::int64_t> used,
                        std::string_view preferred);

/// An axis of these values: logarithmic where they span a factor of 8 and are all positive, with
/// labels at the values where these are few.
Axis axis_of(std::string label, std::span<const double> values);

/// For measured values: logarithmic from a factor of 20 on, else from zero.
Axis measured_axis(std::string label, std::span<const Series> series);

}  // namespace switchyard
