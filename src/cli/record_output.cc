#include "cli/record_output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/output.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

bool is_row_format(RecordFormat format) {
  return format == RecordFormat::jsonl || format == RecordFormat::csv;
}

bool keeps_every_field(RecordFormat format) {
  return is_row_format(format) || format == RecordFormat::json;
}

/// Columns of the terminal, or of a page where standard output is a file or a pipe.
int output_width() {
  constexpr int kPage = 120;
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kPage;
}

}  // namespace

RecordOutput::RecordOutput(RecordFormat format, std::span<const std::string> paths)
    : format_(format) {
  for (const std::string& path : paths) files_.emplace_back(path);
  if (format_ == RecordFormat::csv) print(csv_header());
}

void RecordOutput::add(const Record& record) {
  std::string error_of_file;
  for (RecordFile& file : files_) {
    try {
      file.append(record);
    } catch (const Error& error) {
      error_of_file = error.what();
    }
  }
  if (!error_of_file.empty()) {
    file_error_ = error_of_file;
    unsaved_.push_back(record);
  }
  if (format_ == RecordFormat::jsonl) print(jsonl_row(record));
  if (format_ == RecordFormat::csv) print(csv_row(record));
  records_.push_back(record);
}

void RecordOutput::finish() {
  const bool has_document = format_ == RecordFormat::json || !records_.empty();
  if (has_document && !is_row_format(format_)) {
    print(format_records(records_, format_, output_width()));
  }
  if (file_is_good()) return;
  if (!keeps_every_field(format_)) {
    for (const Record& record : unsaved_) print(jsonl_row(record));
  }
  throw Error(ErrorCode::io, file_error_ + "; what it did not take is on standard output");
}

}  // namespace switchyard::cli
