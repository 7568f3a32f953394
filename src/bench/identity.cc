#include "bench/identity.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard {
namespace {

bool is_plain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c > ' ' && c != '"' && c != 0x7f;
  });
}

std::string text_of(const Record& value) {
  if (value.is_string() && is_plain(value.get_ref<const std::string&>())) return value;
  // CSV and hand-made files may hold 1 where the record of a run has 1.0.
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  return value.dump(-1, ' ', false, Record::error_handler_t::replace);
}

}  // namespace

std::string cell_line(const Record& record, std::span<const std::string_view> without) {
  std::string line;
  for (const RecordField& field : record_fields()) {
    if (!field.is_identity) continue;
    const auto found = record.find(field.name);
    if (found == record.end()) continue;
    if (found->is_string() && found->get_ref<const std::string&>().empty()) continue;  // as in CSV
    if (std::find(without.begin(), without.end(), field.name) != without.end()) continue;
    line += fmt::format("{}{}={}", line.empty() ? "" : " ", field.name, text_of(*found));
  }
  return line;
}

void require_identity(const Record& identity) {
  for (const auto& [name, value] : identity.items()) {
    const RecordField* field = find_record_field(name);
    require(name == "schema" || (field != nullptr && field->is_identity),
            "field {} belongs to a cell's identity, but record.cc does not mark it as identity",
            name);
  }
}

}  // namespace switchyard
