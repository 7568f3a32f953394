#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/record.h"

namespace switchyard {

/// A record's number, nothing where it is absent or no number.
std::optional<double> number_of(const Record& record, std::string_view field);

/// A record's value as people read it ("true", "16384", "0.9"), "" where it is absent.
std::string text_of(const Record& record, std::string_view field);

/// A number with at most 4 significant digits; integers below 10 million in full.
std::string short_number(double value);

/// Strings from files may hold anything: control characters become blanks, bytes that are no
/// UTF-8 become U+FFFD.
std::string clean_text(std::string_view text);

/// True for a record that was measured and passed its check.
bool is_ok(const Record& record);

/// Fields that tell one measurement from another, in the order in which names mention them: what a
/// cell is, then where and with what it was measured.
std::span<const std::string_view> naming_fields();

/// A value in a name: "T 64", "bf16", "2 threads"; "" where it is absent.
std::string named_value(const Record& record, std::string_view field);

/// named_value of several fields, joined by commas.
std::string named_values(const Record& record, std::span<const std::string> fields);

/// What all of `records` have in common, in one line, leaving out what goes without saying and the
/// fields of `without`. Ends with the CPU and the commit, where these are the same too.
std::string common_values(std::span<const Record* const> records,
                          std::span<const std::string> without);

/// How a field's values are drawn: multiplied by `factor`, under `label`.
struct Quantity {
  std::string label;  ///< "median time, ms"
  double factor = 1;
};

/// For values whose largest is `largest`: "tokens per second, millions" with a factor of 1e-6.
/// Throws Error(invalid_argument) when the schema has no such field or it is not numeric.
Quantity quantity_of(std::string_view field, double largest);

}  // namespace switchyard
