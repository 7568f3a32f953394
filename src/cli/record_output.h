#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/record.h"
#include "bench/sinks.h"

namespace switchyard::cli {

/// Where the records of a run go: standard output in one format, and a file that may be.
class RecordOutput {
 public:
  /// Opens the file, so that one that cannot be written is refused before anything is measured.
  RecordOutput(RecordFormat format, const std::optional<std::string>& path);

  /// jsonl and csv go to standard output at once, the other formats with finish().
  void add(const Record& record);

  /// False once the file has failed: what comes now would only be printed.
  bool file_is_good() const noexcept { return file_error_.empty(); }

  /// Prints what is left, and records that did not reach the file also as jsonl.
  /// Throws Error(io) when the file has failed.
  void finish();

 private:
  RecordFormat format_;
  std::optional<RecordFile> file_;
  std::string file_error_;
  std::vector<Record> records_;
  std::vector<Record> unsaved_;
};

}  // namespace switchyard::cli
