#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "switchyard/layout.h"

namespace switchyard::cli {

/// A layout and how to look at it.
struct LayoutView {
  std::string title;  ///< what was asked for
  TensorLayout layout;
  TensorLayout matrix;  ///< the same in rank 2: rows and columns of the picture
  /// In front of row i; its number where nothing is given.
  std::function<std::string(std::int64_t)> row_name;
  /// What else there is to say of it, label and text.
  std::vector<std::pair<std::string, std::string>> facts;
};

/// Rank 1 as one row, rank 2 as it is, more as the first mode against all others.
TensorLayout as_matrix(const TensorLayout& layout);

/// Facts, and the offsets as far as they fit a page.
std::string table_of(const LayoutView& view);
/// With all offsets, row by row, up to a number of cells; `offsets` is absent beyond.
nlohmann::ordered_json json_of(const LayoutView& view);
/// An SVG picture: one cell for each element with its offset in it, coloured by it.
/// Throws Error(invalid_argument) for more cells than anyone can look at.
std::string svg_of(const LayoutView& view);

}  // namespace switchyard::cli
