#include "workload/trace_formats.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

namespace switchyard {
namespace {

using nlohmann::json;

const json& field(const LineReader& lines, const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) lines.fail(fmt::format("has no '{}'", key));
  return *found;
}

std::int64_t integer(const LineReader& lines, const json& value, std::string_view name) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<std::uint64_t>() > kMax)) {
    lines.fail(fmt::format("{} is not an integer of 63 bits", name));
  }
  return value.get<std::int64_t>();
}

void require_array(const LineReader& lines, const json& value, std::string_view name) {
  if (!value.is_array()) {
    lines.fail(fmt::format("{} is a JSON {}: expected an array", name, value.type_name()));
  }
}

}  // namespace

json json_object(const LineReader& lines) {
  const std::string_view text = lines.line();
  try {
    json object = json::parse(text.begin(), text.end());
    if (!object.is_object()) {
      lines.fail(fmt::format("is a JSON {}: expected an object", object.type_name()));
    }
    return object;
  } catch (const json::parse_error& error) {
    if (error.byte > text.size()) lines.fail("is truncated JSON: expected a whole object");
    const std::string_view rest = text.substr(error.byte == 0 ? 0 : error.byte - 1);
    lines.fail(fmt::format("is not JSON at column {}, '{}'", error.byte, printable(rest)));
  } catch (const json::exception&) {
    lines.fail("holds a number JSON readers cannot represent");
  }
}

std::int64_t json_integer(const LineReader& lines, const json& object, const char* key) {
  return integer(lines, field(lines, object, key), key);
}

std::string json_string(const LineReader& lines, const json& object, const char* key) {
  const json& value = field(lines, object, key);
  if (!value.is_string()) {
    lines.fail(fmt::format("{} is a JSON {}: expected a string", key, value.type_name()));
  }
  return value.get<std::string>();
}

void json_integers(const LineReader& lines, const json& array, std::string_view name,
                   std::vector<std::int64_t>& out) {
  require_array(lines, array, name);
  out.clear();
  for (const json& value : array) out.push_back(integer(lines, value, name));
}

void json_numbers(const LineReader& lines, const json& array, std::string_view name,
                  std::vector<double>& out) {
  require_array(lines, array, name);
  out.clear();
  for (const json& value : array) {
    if (!value.is_number()) {
      lines.fail(fmt::format("{} holds a JSON {}: expected numbers", name, value.type_name()));
    }
    out.push_back(value.get<double>());
  }
}

std::vector<std::string_view> csv_fields(const LineReader& lines, std::size_t count) {
  std::vector<std::string_view> fields;
  std::string_view rest = lines.line();
  for (bool last = false; !last;) {
    const auto comma = rest.find(',');
    last = comma == std::string_view::npos;
    std::string_view text = rest.substr(0, comma);
    const auto begin = text.find_first_not_of(" \t");
    text = begin == std::string_view::npos
               ? std::string_view{}
               : text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
    fields.push_back(text);
    if (!last) rest.remove_prefix(comma + 1);
    if (fields.size() > count) break;
  }
  if (fields.size() != count) {
    lines.fail(fmt::format("has {} {} fields: expected {}",
                           fields.size() > count ? "more than" : "only",
                           fields.size() > count ? count : fields.size(), count));
  }
  return fields;
}

std::int64_t csv_integer(const LineReader& lines, std::string_view name, std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) {
    lines.fail(fmt::format("{} is '{}': expected an integer of 63 bits", name, printable(text)));
  }
  return value;
}

}  // namespace switchyard
