#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

namespace switchyard {

/// One flat JSON object per cell, schema "switchyard/1", keys in the order of record_fields().
/// Absent means not applicable; nothing is null.
using Record = nlohmann::ordered_json;

struct RecordField {
  std::string_view name;
  std::string_view type;     ///< "string", "integer", "number", "boolean", "numbers"
  std::string_view unit;     ///< "ms", "bytes", "1", ...
  std::string_view meaning;  ///< one line
  /// It decides what the record is a measurement of: an axis, or whatever else a cell is told.
  bool is_identity = false;
};

/// Every field a record may have, in order: the schema, as code.
std::span<const RecordField> record_fields() noexcept;

/// One of them, or null.
const RecordField* find_record_field(std::string_view name) noexcept;

/// The fields of a record in schema order. Throws Error(invalid_argument) for a field the schema
/// lacks, a value of another type, or a number that is not finite.
Record in_schema_order(const Record& record);

}  // namespace switchyard
