#include "bench/sinks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/replace_file.h"
#include "bench/table.h"

namespace switchyard {
namespace {

constexpr std::array<Named<RecordFormat>, 5> kFormatNames = {{
    {RecordFormat::table, "table"},
    {RecordFormat::json, "json"},
    {RecordFormat::jsonl, "jsonl"},
    {RecordFormat::csv, "csv"},
    {RecordFormat::md, "md"},
}};

[[noreturn]] void throw_io(std::string_view verb, const std::string& path, int error) {
  throw Error(ErrorCode::io, fmt::format("could not {} {}: {}", verb, path, std::strerror(error)));
}

// Host names, paths and command lines may hold bytes that are not UTF-8: they are replaced.
std::string text_of(const Record& value) {
  return value.dump(-1, ' ', false, Record::error_handler_t::replace);
}

std::string csv_quoted(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  if (text.find_first_of(",\"") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string csv_cell(const Record& value) {
  if (value.is_string()) return csv_quoted(value.get<std::string>());
  if (!value.is_array()) return text_of(value);
  std::string joined;
  for (const auto& element : value) {
    if (!joined.empty()) joined += ';';
    joined += text_of(element);
  }
  return joined;
}

std::string json_array(std::span<const Record> records) {
  std::string out = "[";
  for (const auto& record : records) {
    out += out.size() == 1 ? "\n" : ",\n";
    out += text_of(record);
  }
  return out + "\n]\n";
}

// 0 or the errno of what went wrong.
int write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

/// What follows the last line break, or the end of it where it is longer than any row.
std::string unended_line(int file, off_t size) {
  constexpr off_t kLongest = 1 << 22;
  const off_t begin = std::max<off_t>(0, size - kLongest);
  std::string text(static_cast<std::size_t>(size - begin), '\0');
  const ssize_t bytes = ::pread(file, text.data(), text.size(), begin);
  text.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes));
  return text.substr(text.rfind('\n') + 1);
}

/// Whether one of the two begins with the other: true for the part of a write that was cut short.
bool agree(std::string_view a, std::string_view b) {
  const std::size_t size = std::min(a.size(), b.size());
  return a.substr(0, size) == b.substr(0, size);
}

/// Whether a line without its end is what a killed run left: a row of JSON that does not parse, or
/// any row of CSV, which never shows that its last number is whole.
bool is_torn_row(RecordFormat format, std::string_view line, bool is_first) {
  if (format == RecordFormat::jsonl) {
    return agree(line, R"({"schema":"switchyard/1")") && !Record::accept(line);
  }
  return format == RecordFormat::csv &&
         (is_first ? agree(line, csv_header()) : agree(line, "switchyard/1,"));
}

std::string first_line(int file) {
  std::string line(1 << 14, '\0');
  const ssize_t bytes = ::pread(file, line.data(), line.size(), 0);
  line.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes));
  return line.substr(0, line.find('\n') + 1);
}

}  // namespace

RecordFormat record_format_from_name(std::string_view name) {
  return value_in(kFormatNames, "output format", name);
}

RecordFormat record_format_of_path(std::string_view path) {
  const auto dot = path.rfind('.');
  const std::string_view suffix = dot == std::string_view::npos ? "" : path.substr(dot + 1);
  for (const auto& format : kFormatNames) {
    if (format.value != RecordFormat::table && format.name == suffix) return format.value;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("output file '{}' does not say its format: expected a name that ends in "
                          ".json, .jsonl, .csv or .md",
                          path));
}

std::string csv_header() {
  std::string line;
  for (const auto& field : record_fields()) {
    if (!line.empty()) line += ',';
    line += field.name;
  }
  return line + '\n';
}

std::string csv_row(const Record& record) {
  std::string line;
  for (const auto& field : record_fields()) {
    if (&field != record_fields().data()) line += ',';
    const auto it = record.find(field.name);
    if (it != record.end()) line += csv_cell(*it);
  }
  return line + '\n';
}

std::string jsonl_row(const Record& record) { return text_of(record) + '\n'; }

std::string format_records(std::span<const Record> records, RecordFormat format, int width) {
  std::string out;
  switch (format) {
    case RecordFormat::table: return text_table(records, width);
    case RecordFormat::md: return markdown_table(records);
    case RecordFormat::json: return json_array(records);
    case RecordFormat::jsonl:
      for (const auto& record : records) out += jsonl_row(record);
      return out;
    case RecordFormat::csv:
      out = csv_header();
      for (const auto& record : records) out += csv_row(record);
      return out;
  }
  return out;
}

RecordFile::RecordFile(std::string path)
    : path_(std::move(path)), format_(record_format_of_path(path_)) {
  if (format_ == RecordFormat::json) {
    struct stat status;
    if (::stat(path_.c_str(), &status) == 0 && status.st_size > 0) array_ = read_records(path_);
    replace_array();
    return;
  }
  file_ = ::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) throw_io("write", path_, errno);
  try {
    lock();
    mend_end();
    const off_t size = std::max<off_t>(0, ::lseek(file_, 0, SEEK_END));
    if (format_ == RecordFormat::csv && size > 0 && first_line(file_) != csv_header()) {
      throw Error(ErrorCode::invalid_data,
                  fmt::format("{}:1: the header is not that of this version's records: expected "
                              "{} columns from '{}' to '{}'; write to another file",
                              path_, record_fields().size(), record_fields().front().name,
                              record_fields().back().name));
    }
    if (size == 0 && format_ == RecordFormat::csv) write_row(csv_header());
    if (size == 0 && format_ == RecordFormat::md) write_row(markdown_header());
  } catch (...) {
    ::close(file_);
    throw;
  }
}

RecordFile::~RecordFile() {
  if (file_ >= 0) ::close(file_);
}

void RecordFile::lock() const {
  // Where locks are not to be had (some network file systems) the file is not guarded.
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  throw Error(ErrorCode::io, fmt::format("could not write {}: another run is writing it", path_));
}

void RecordFile::mend_end() {
  const off_t size = ::lseek(file_, 0, SEEK_END);
  if (size <= 0) return;
  const std::string rest = unended_line(file_, size);
  if (rest.empty()) return;
  if (!is_torn_row(format_, rest, static_cast<off_t>(rest.size()) == size)) return write_row("\n");
  if (::ftruncate(file_, size - static_cast<off_t>(rest.size())) != 0) {
    throw_io("mend the torn last row of", path_, errno);
  }
}

void RecordFile::append(const Record& record) {
  switch (format_) {
    case RecordFormat::jsonl: return write_row(jsonl_row(record));
    case RecordFormat::csv: return write_row(csv_row(record));
    case RecordFormat::md: return write_row(markdown_row(record));
    default: break;
  }
  array_.push_back(record);
  replace_array();
}

void RecordFile::write_row(const std::string& row) {
  const off_t before = ::lseek(file_, 0, SEEK_END);
  const int error = write_all(file_, row);
  if (error == 0) return;
  // A disk that fills up takes part of a row: take it back, so that the file stays whole.
  if (before >= 0 && ::ftruncate(file_, before) != 0) errno = 0;
  throw_io("write", path_, error);
}

void RecordFile::replace_array() const { replace_file(path_, json_array(array_)); }

}  // namespace switchyard
