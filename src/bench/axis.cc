#include "bench/axis.h"

#include <charconv>
#include <cmath>
#include <concepts>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr std::size_t kMaxValues = 100'000;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  for (;;) {
    const std::size_t end = text.find(separator);
    pieces.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

/// One axis option being read; its errors quote the option and the piece.
template <class T>
class AxisReader {
 public:
  AxisReader(std::string_view option, T least, T most)
      : option_(option), least_(least), most_(most) {}

  std::vector<T> read(std::string_view text) {
    for (const std::string_view piece : split(text, ',')) {
      const auto parts = split(piece, ':');
      require(parts.size() == 1 || parts.size() == 3,
              "{} '{}': expected a number or a range first:last:*factor or first:last:+step",
              option_, piece);
      if (parts.size() == 1) {
        add(value(piece, piece), piece);
      } else {
        add_range(piece, parts[0], parts[1], parts[2]);
      }
    }
    return std::move(values_);
  }

 private:
  void add(T value, std::string_view piece) {
    require(values_.size() < kMaxValues, "{} '{}': gives more than {} values", option_, piece,
            kMaxValues);
    values_.push_back(value);
  }

  void add_range(std::string_view piece, std::string_view first_text, std::string_view last_text,
                 std::string_view step_text) {
    const T first = value(first_text, piece);
    const T last = value(last_text, piece);
    require(first <= last, "{} '{}': the range runs backwards, expected first <= last", option_,
            piece);
    const bool multiplies = step_text.starts_with('*');
    require(multiplies || step_text.starts_with('+'),
            "{} '{}': expected a step *factor or +step after the second ':'", option_, piece);
    const T step = number(step_text.substr(1), piece);
    require(multiplies ? step > T{1} : step > T{0}, "{} '{}': the range stands still, expected {}",
            option_, piece, multiplies ? "a factor over 1" : "a step over 0");
    require(!multiplies || first > T{0}, "{} '{}': a range with a factor must begin over 0",
            option_, piece);
    add(first, piece);
    for (T v = first; has_next(v, last, step, multiplies);) {
      v = multiplies ? v * step : v + step;
      add(v, piece);
    }
  }

  static bool has_next(T v, T last, T step, bool multiplies) {
    if constexpr (std::integral<T>) {
      return multiplies ? v <= last / step : v <= last - step;
    } else {
      const T slack = std::abs(last) * T(1e-9);  // 1:2:+0.1 includes 2
      return (multiplies ? v * step : v + step) <= last + slack;
    }
  }

  T value(std::string_view text, std::string_view piece) {
    const T v = number(text, piece);
    require(v >= least_ && v <= most_, "{} '{}': {} is out of range, expected {} to {}", option_,
            piece, v, least_, most_);
    return v;
  }

  T number(std::string_view text, std::string_view piece) {
    T v{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
    require(error != std::errc::result_out_of_range,
            "{} '{}': '{}' is too large, expected {} to {}", option_, piece, text, least_, most_);
    bool whole = error == std::errc{} && end == text.data() + text.size();
    if constexpr (std::floating_point<T>) whole = whole && std::isfinite(v);
    require(whole, "{} '{}': '{}' is not a {}", option_, piece, text,
            std::integral<T> ? "whole number" : "number");
    return v;
  }

  std::string_view option_;
  T least_, most_;
  std::vector<T> values_;
};

}  // namespace

std::vector<std::int64_t> integer_axis(std::string_view option, std::string_view text,
                                       std::int64_t least, std::int64_t most) {
  return AxisReader<std::int64_t>(option, least, most).read(text);
}

std::vector<double> number_axis(std::string_view option, std::string_view text, double least,
                                double most) {
  return AxisReader<double>(option, least, most).read(text);
}

std::vector<std::string> name_axis(std::string_view option, std::string_view text) {
  std::vector<std::string> names;
  for (const std::string_view piece : split(text, ',')) {
    require(!piece.empty(), "{} '{}': a name is empty", option, text);
    names.emplace_back(piece);
  }
  return names;
}

}  // namespace switchyard
