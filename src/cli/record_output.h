#pragma once

#include <deque>
#include <span>
#include <string>
#include <vector>

#include "bench/record.h"
#include "bench/sinks.h"

namespace switchyard::cli {

/// Where the records of a run go: standard output in one format, and files if any.
class RecordOutput {
 public:
  /// Opens the files, so that one that cannot be written is refused before anything is measured.
  RecordOutput(RecordFormat format, std::span<const std::string> paths);

  /// jsonl and csv go to standard output at once, the other formats with finish().
  void add(const Record& record);

  /// Everything added so far.
  std::span<const Record> records() const noexcept { return records_; }

  /// False once a file has failed: what comes now would not reach it.
  bool file_is_good() const noexcept { return file_error_.empty(); }

  /// Prints what is left, and records that did not reach every file also as jsonl.
  /// Throws Error(io) when a file has failed.
  void finish();

 private:
  RecordFormat format_;
  std::deque<RecordFile> files_;  // which cannot move
  std::string file_error_;
  std::vector<Record> records_;  // all of them
  std::vector<Record> unsaved_;
};

}  // namespace switchyard::cli
