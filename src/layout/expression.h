#pragma once

#include <string_view>

#include "switchyard/layout.h"

namespace switchyard {

/// How deep tuples and functions may be nested in text; bounds the reader's recursion.
inline constexpr int kMaxLayoutNesting = 64;

/// The layout an expression stands for. Blanks are free between words.
///
///   expression  term { o term }                     A o B = composition(A,B), from the left
///   term        literal | function
///   literal     tuple [ : tuple ]                   a shape alone is column-major
///   tuple       integer | ( tuple { , tuple } )
///   function    coalesce(A) coalesce(A,tuple) composition(A,B) complement(A) complement(A,integer)
///               logical_divide(A,B) zipped_divide(A,B) logical_product(A,B) right_inverse(A)
///               left_inverse(A)
///   tiler       < A { , A } >                       by mode: composition, logical_divide and
///                                                   zipped_divide take one for B
///
/// Throws Error(invalid_argument) with the column, what was expected there and what was found, or
/// the condition that the layouts of a function break.
TensorLayout evaluate_layout(std::string_view expression);

}  // namespace switchyard
