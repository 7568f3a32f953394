#pragma once

#include <span>
#include <string>
#include <string_view>

#include "bench/record.h"

namespace switchyard {

/// A cell in one line, from a record of it or from Target::identity: its identity fields in schema
/// order, those in `without` left out.
///   bench=topk impl=vector strategy=topk_softmax device=cpu threads=2 tokens=16 ... cold=true
/// Strings with blanks, quotes or control characters are written as JSON. Two records are of one
/// cell exactly when their lines are equal: resuming, filtering and comparing all ask this line.
std::string cell_line(const Record& record, std::span<const std::string_view> without = {});

/// Throws Error(invalid_argument) for a field that the schema does not mark as identity: an axis
/// that cells are not told apart by.
void require_identity(const Record& identity);

}  // namespace switchyard
