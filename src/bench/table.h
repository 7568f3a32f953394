#pragma once

#include <span>
#include <string>

#include "bench/record.h"

namespace switchyard {

/// Records for people: what all share in a heading, then one aligned row each with the columns that
/// vary or matter, failing cells with their error underneath. Columns that do not fit `width` are
/// left out, the least telling first; 0 leaves none out.
std::string text_table(std::span<const Record> records, int width);

/// The same columns, as a GitHub table.
std::string markdown_table(std::span<const Record> records);

/// The pieces for writing a GitHub table row by row, with columns that depend on no record.
std::string markdown_header();
std::string markdown_row(const Record& record);

}  // namespace switchyard
