#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

/// Text for an error message: at most 60 characters, printable ASCII only.
std::string printable(std::string_view text);

/// Reads a text stream line by line in bounded memory: skips blank lines and a byte order mark,
/// strips line ends. `file` is what errors call the stream.
class LineReader {
 public:
  /// A line longer than this is an error: it is no trace.
  static constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

  LineReader(std::istream& in, std::string file);

  /// Moves to the next line that is not blank; false at the end of the stream. Throws
  /// Error(invalid_data) for a NUL byte or an overlong line, Error(io) when reading fails.
  bool next();

  std::string_view line() const noexcept { return line_; }
  std::int64_t number() const noexcept { return number_; }
  const std::string& file() const noexcept { return file_; }

  /// Throws Error(invalid_data) "FILE:LINE: reason".
  [[noreturn]] void fail(std::string_view reason) const;

 private:
  bool read_raw_line();
  bool refill();

  std::istream& in_;
  std::string file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of what is buffered and not yet returned
  std::size_t end_ = 0;
  std::string_view line_;  // into buffer_
  std::int64_t number_ = 0;
};

}  // namespace switchyard
