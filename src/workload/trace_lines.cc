#include "workload/trace_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr std::size_t kFirstBufferBytes = std::size_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  std::string out(text.substr(0, kLongest));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (text.size() > kLongest) out += "...";
  return out;
}

LineReader::LineReader(std::istream& in, std::string file)
    : in_(in), file_(std::move(file)), buffer_(kFirstBufferBytes) {}

bool LineReader::next() {
  while (read_raw_line()) {
    ++number_;
    if (number_ == 1 && line_.starts_with(kByteOrderMark)) {
      line_.remove_prefix(kByteOrderMark.size());
    }
    if (line_.size() > kMaxLineBytes) {
      fail(fmt::format("is longer than {} MiB: expected a trace of many lines",
                       kMaxLineBytes >> 20));
    }
    if (line_.ends_with('\r')) line_.remove_suffix(1);
    if (std::memchr(line_.data(), '\0', line_.size()) != nullptr) {
      fail("is binary (a NUL byte): expected text");
    }
    if (!is_blank(line_)) return true;
  }
  return false;
}

void LineReader::fail(std::string_view reason) const {
  throw Error(ErrorCode::invalid_data, fmt::format("{}:{}: {}", file_, number_, reason));
}

bool LineReader::read_raw_line() {
  std::size_t searched = 0;
  for (;;) {
    const char* const from = buffer_.data() + begin_;
    const auto* const newline =
        static_cast<const char*>(std::memchr(from + searched, '\n', end_ - begin_ - searched));
    if (newline != nullptr) {
      line_ = {from, static_cast<std::size_t>(newline - from)};
      begin_ += line_.size() + 1;
      return true;
    }
    searched = end_ - begin_;
    if (searched > kMaxLineBytes) break;
    if (!refill()) break;
  }
  // The last line, without a line end; or the beginning of one that is too long.
  line_ = {buffer_.data() + begin_, end_ - begin_};
  begin_ = end_;
  return !line_.empty();
}

bool LineReader::refill() {
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
  in_.read(buffer_.data() + end_, static_cast<std::streamsize>(buffer_.size() - end_));
  if (in_.bad()) {
    throw Error(ErrorCode::io, fmt::format("{}: reading failed after line {}", file_, number_));
  }
  const auto count = static_cast<std::size_t>(in_.gcount());
  end_ += count;
  return count > 0;
}

}  // namespace switchyard
