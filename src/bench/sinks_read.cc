// Reading record files back: the other half of sinks.cc.

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/check.h"
#include "bench/sinks.h"

namespace switchyard {
namespace {

[[noreturn]] void throw_data(const std::string& path, std::int64_t line, std::string_view why) {
  throw Error(ErrorCode::invalid_data, fmt::format("{}:{}: {}", path, line, why));
}

std::string content_of(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  if (in) content << in.rdbuf();
  // An empty file sets failbit on content, a directory opens and then fails to read.
  if (!in || in.bad() || (content.fail() && errno != 0)) {
    throw Error(ErrorCode::io, fmt::format("could not read {}: {}", path,
                                           std::strerror(errno != 0 ? errno : EIO)));
  }
  return content.str();
}

Record checked(const std::string& path, std::int64_t line, const Record& record) {
  try {
    const Record ordered = in_schema_order(record);
    require(ordered.value("schema", "") == "switchyard/1", "schema is '{}': expected switchyard/1",
            ordered.value("schema", ""));
    return ordered;
  } catch (const Error& error) {
    throw_data(path, line, error.what());
  }
}

// Calls each(line, number, is_whole) for every line that is not empty.
template <class Each>
void for_lines(std::string_view text, Each&& each) {
  std::int64_t number = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) each(line, number, end != std::string_view::npos);
  }
}

// The cells of one row, nothing when a quote is open or misplaced.
std::optional<std::vector<std::string>> csv_cells(std::string_view line) {
  std::vector<std::string> cells(1);
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == ',') {
      cells.emplace_back();
    } else if (line[i] != '"') {
      cells.back() += line[i];
    } else {
      if (!cells.back().empty()) return std::nullopt;
      for (++i;; ++i) {
        if (i >= line.size()) return std::nullopt;
        if (line[i] == '"') {
          if (i + 1 >= line.size() || line[i + 1] != '"') break;
          ++i;
        }
        cells.back() += line[i];
      }
      if (i + 1 < line.size() && line[i + 1] != ',') return std::nullopt;
    }
  }
  return cells;
}

Record value_of_cell(const RecordField& field, const std::string& cell) {
  if (field.type == "string") return cell;
  if (field.type != "numbers") return Record::parse(cell);
  Record values = Record::array();
  std::istringstream in(cell);
  for (std::string element; std::getline(in, element, ';');) {
    values.push_back(Record::parse(element));
  }
  return values;
}

std::vector<Record> read_csv(const std::string& path, std::string_view text,
                             std::int64_t& num_torn) {
  std::vector<Record> records;
  std::vector<const RecordField*> columns;
  for_lines(text, [&](std::string_view line, std::int64_t number, bool is_whole) {
    const auto cells = csv_cells(line);
    if (number == 1 && !is_whole) {
      ++num_torn;
      return;
    }
    if (number == 1) {
      for (const auto& name : cells.value_or(std::vector<std::string>{"?"})) {
        columns.push_back(find_record_field(name));
        if (columns.back() == nullptr) {
          throw_data(path, 1, fmt::format("column '{}' is not a field of a record", name));
        }
      }
      return;
    }
    if (!is_whole || !cells || cells->size() < columns.size()) {
      ++num_torn;
      return;
    }
    if (cells->size() > columns.size()) {
      throw_data(path, number, fmt::format("{} cells: expected {}", cells->size(), columns.size()));
    }
    Record record = Record::object();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const std::string& cell = (*cells)[i];
      if (cell.empty()) continue;
      try {
        record[std::string(columns[i]->name)] = value_of_cell(*columns[i], cell);
      } catch (const Record::exception&) {
        throw_data(
            path, number,
            fmt::format("{} is '{}': expected {}", columns[i]->name, cell, columns[i]->type));
      }
    }
    records.push_back(checked(path, number, record));
  });
  return records;
}

std::vector<Record> read_jsonl(const std::string& path, std::string_view text,
                               std::int64_t& num_torn) {
  std::vector<Record> records;
  for_lines(text, [&](std::string_view line, std::int64_t number, bool) {
    const Record record = Record::parse(line, nullptr, false);
    if (!record.is_discarded()) {
      records.push_back(checked(path, number, record));
    } else if (line.front() == '{') {
      ++num_torn;
    } else {
      throw_data(path, number, "not a JSON object");
    }
  });
  return records;
}

std::vector<Record> read_json(const std::string& path, std::string_view text) {
  Record array;
  try {
    array = Record::parse(text);
  } catch (const Record::parse_error& error) {
    const auto before = text.substr(0, std::min(error.byte, text.size()));
    throw_data(path, 1 + std::count(before.begin(), before.end(), '\n'), "not a JSON array");
  }
  if (!array.is_array()) throw_data(path, 1, "not a JSON array of records");
  std::vector<Record> records;
  for (const auto& record : array) {
    // RecordFile writes one record per line after the bracket's.
    records.push_back(checked(path, static_cast<std::int64_t>(records.size()) + 2, record));
  }
  return records;
}

}  // namespace

std::vector<Record> read_records(const std::string& path, std::int64_t* num_torn) {
  const RecordFormat format = record_format_of_path(path);
  require(format != RecordFormat::md, "cannot read records from {}: expected .json, .jsonl or .csv",
          path);
  const std::string text = content_of(path);
  std::int64_t torn = 0;
  std::vector<Record> records = format == RecordFormat::csv     ? read_csv(path, text, torn)
                                : format == RecordFormat::jsonl ? read_jsonl(path, text, torn)
                                                                : read_json(path, text);
  if (num_torn != nullptr) *num_torn = torn;
  return records;
}

}  // namespace switchyard
