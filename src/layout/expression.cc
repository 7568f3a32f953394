#include "layout/expression.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <type_traits>
#include <variant>

#include "base/check.h"

namespace switchyard {
namespace {

enum class Function {
  coalesce,
  composition,
  complement,
  logical_divide,
  zipped_divide,
  logical_product,
  right_inverse,
  left_inverse,
};

constexpr std::array<Named<Function>, 8> kFunctions = {{
    {Function::coalesce, "coalesce"},
    {Function::composition, "composition"},
    {Function::complement, "complement"},
    {Function::logical_divide, "logical_divide"},
    {Function::zipped_divide, "zipped_divide"},
    {Function::logical_product, "logical_product"},
    {Function::right_inverse, "right_inverse"},
    {Function::left_inverse, "left_inverse"},
}};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

using LayoutOrTiler = std::variant<TensorLayout, Tiler>;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  TensorLayout whole_literal() {
    TensorLayout layout = literal();
    if (!at_end()) fail(at_, "the end");
    return layout;
  }

  TensorLayout whole_expression() {
    TensorLayout layout = expression();
    if (!at_end()) fail(at_, "'o' or the end");
    return layout;
  }

 private:
  /// Counts nesting while it lives.
  struct Level {
    Parser& parser;
    explicit Level(Parser& p) : parser(p) {
      if (++parser.nesting_ > kMaxLayoutNesting) {
        parser.fail_at(parser.at_, fmt::format("nested more than {} deep", kMaxLayoutNesting));
      }
    }
    ~Level() { --parser.nesting_; }
  };

  TensorLayout expression() {
    const std::size_t begin = at_;
    TensorLayout layout = term();
    while (!at_end() && word() == "o") {
      at_ += 1;
      const TensorLayout right = term();
      layout = at_column(begin, [&] { return composition(layout, right); });
    }
    return layout;
  }

  TensorLayout term() {
    if (at_end()) fail(at_, "a layout");
    if (is_letter(text_[at_])) return call();
    if (!is_digit(text_[at_]) && text_[at_] != '(') fail(at_, "a layout");
    return literal();
  }

  TensorLayout literal() {
    if (at_end()) fail(at_, "a layout");
    const std::size_t begin = at_;
    IntTuple shape = tuple("a size", 1);
    if (!accept(':')) return at_column(begin, [&] { return TensorLayout(shape); });
    skip_blanks();
    const std::size_t stride_begin = at_;
    IntTuple stride = tuple("a stride", 0);
    return at_column(stride_begin,
                     [&] { return TensorLayout(std::move(shape), std::move(stride)); });
  }

  IntTuple tuple(std::string_view what, std::int64_t least) {
    if (!accept('(')) return integer(what, least);
    const Level level(*this);
    std::vector<IntTuple> items;
    do {
      items.push_back(tuple(what, least));
    } while (accept(','));
    expect(')', "',' or ')'");
    return IntTuple(std::move(items));
  }

  std::int64_t integer(std::string_view what, std::int64_t least) {
    const std::string expected = fmt::format("{} (an integer of at least {})", what, least);
    if (at_end() || !is_digit(text_[at_])) fail(at_, expected);
    std::size_t end = at_;
    while (end < text_.size() && is_digit(text_[end])) ++end;
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + end, value);
    if (error != std::errc()) fail_at(at_, "the integer does not fit 63 bits");
    if (value < least) fail(at_, expected);
    at_ = end;
    return value;
  }

  TensorLayout call() {
    const Level level(*this);
    const std::size_t begin = at_;
    const std::string_view name = word();
    const Function function =
        at_column(begin, [&] { return value_in(kFunctions, "function", name); });
    at_ += name.size();
    expect('(', "'('");
    const TensorLayout a = expression();
    const auto apply = [&](auto compute) {
      TensorLayout result = at_column(begin, compute);
      expect(')', "')'");
      return result;
    };
    const auto next = [&] { expect(',', "','"); };
    const auto apply_to = [&](auto compute) {
      next();
      const LayoutOrTiler b = layout_or_tiler();
      return apply([&] { return std::visit([&](const auto& x) { return compute(a, x); }, b); });
    };
    switch (function) {
      case Function::coalesce: {
        if (!accept(',')) return apply([&] { return coalesce(a); });
        const IntTuple profile = tuple("any integer", 0);
        return apply([&] { return coalesce(a, profile); });
      }
      case Function::complement: {
        if (!accept(',')) return apply([&] { return complement(a); });
        const std::int64_t cotarget = integer("the size to fill", 1);
        return apply([&] { return complement(a, cotarget); });
      }
      case Function::composition:
        return apply_to([](const auto& x, const auto& y) { return composition(x, y); });
      case Function::logical_divide:
        return apply_to([](const auto& x, const auto& y) { return logical_divide(x, y); });
      case Function::zipped_divide:
        return apply_to([](const auto& x, const auto& y) { return zipped_divide(x, y); });
      case Function::logical_product: {
        next();
        const TensorLayout b = expression();
        return apply([&] { return logical_product(a, b); });
      }
      case Function::right_inverse: return apply([&] { return right_inverse(a); });
      case Function::left_inverse: return apply([&] { return left_inverse(a); });
    }
    return a;
  }

  LayoutOrTiler layout_or_tiler() {
    if (!accept('<')) return expression();
    Tiler tiler;
    do {
      tiler.modes.push_back(expression());
    } while (accept(','));
    expect('>', "',' or '>'");
    return tiler;
  }

  /// What compute() returns; an Error of its own gets the column.
  template <class Compute>
  std::invoke_result_t<Compute> at_column(std::size_t at, Compute compute) const {
    try {
      return compute();
    } catch (const Error& error) {
      fail_at(at, error.what());
    }
  }

  bool at_end() {
    skip_blanks();
    return at_ == text_.size();
  }
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  bool accept(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, std::string_view expected) {
    if (!accept(c)) fail(at_, expected);
  }

  /// The letters from here on.
  std::string_view word() const {
    std::size_t end = at_;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    return text_.substr(at_, end - at_);
  }

  std::string found(std::size_t at) const {
    if (at >= text_.size()) return "the end";
    if (text_[at] == '-') return "a '-' (nothing is negative here)";
    const std::string_view letters = word();
    if (!letters.empty()) return fmt::format("'{}'", letters);
    const auto byte = static_cast<unsigned char>(text_[at]);
    return byte >= ' ' && byte < 0x7f ? fmt::format("'{}'", text_[at])
                                      : fmt::format("the byte 0x{:02x}", byte);
  }

  [[noreturn]] void fail(std::size_t at, std::string_view expected) const {
    fail_at(at, fmt::format("expected {} but found {}", expected, found(at)));
  }
  [[noreturn]] void fail_at(std::size_t at, std::string_view sentence) const {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("layout expression, column {}: {}", at + 1, sentence));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace

TensorLayout parse_layout(std::string_view text) { return Parser(text).whole_literal(); }

TensorLayout evaluate_layout(std::string_view expression) {
  return Parser(expression).whole_expression();
}

}  // namespace switchyard
