#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/record.h"

namespace switchyard {

enum class RecordFormat { table, json, jsonl, csv, md };

/// "table", "json", "jsonl", "csv" or "md". Throws Error(invalid_argument) that lists them.
RecordFormat record_format_from_name(std::string_view name);

/// By the suffix: .json, .jsonl, .csv or .md. Throws Error(invalid_argument) for any other.
RecordFormat record_format_of_path(std::string_view path);

/// Records as one document, with a newline at its end. `width` is for tables: columns that do not
/// fit are left out, the least telling first; 0 leaves none out.
std::string format_records(std::span<const Record> records, RecordFormat format, int width = 0);

/// The pieces for writing jsonl and csv row by row, each a line with its newline.
///   csv: one column per field of record_fields(), RFC 4180 quoting, absent is empty, arrays are
///   joined by ';', line breaks inside strings become spaces.
std::string csv_header();
std::string csv_row(const Record& record);
std::string jsonl_row(const Record& record);

/// A file of records that survives being killed at any time: .json holds a whole array after each
/// append (written to PATH.tmp, then renamed); .jsonl, .csv and .md get one write per row. A last
/// row that an earlier run left torn is cut off when the file is opened, so that it never looks
/// like a row; anything else that lacks its line break gets one. While a .jsonl, .csv or .md file
/// is open, no other RecordFile can open it.
class RecordFile {
 public:
  /// Opens or creates it, so that an unwritable path is known before anything is measured. Throws
  /// Error(invalid_argument) for the suffix, Error(io) with the system's reason or while another
  /// run is writing it, Error(invalid_data) when the file's content is not such a file's.
  explicit RecordFile(std::string path);
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  /// Throws Error(io) with the file and the system's reason. Rows already there stay; the caller
  /// still has `record` and can print it elsewhere.
  void append(const Record& record);

  const std::string& path() const noexcept { return path_; }

 private:
  void lock() const;
  void mend_end();
  void write_row(const std::string& row);
  void replace_array() const;

  std::string path_;
  RecordFormat format_;
  int file_ = -1;              // not for json
  std::vector<Record> array_;  // only for json
};

/// Reads .json, .jsonl or .csv back. Rows that a killed run left torn are skipped and counted in
/// *num_torn, be it the header of a CSV file. Throws Error(io) with the system's reason,
/// Error(invalid_data) naming file and line.
std::vector<Record> read_records(const std::string& path, std::int64_t* num_torn = nullptr);

}  // namespace switchyard
