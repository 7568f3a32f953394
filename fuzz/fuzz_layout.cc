#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "layout/expression.h"
#include "switchyard/error.h"

// A layout expression of arbitrary bytes ends in a layout or in an Error; a layout reads back as
// printed, and its inverses keep their laws where they can be walked through.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  constexpr std::int64_t kWalk = 4096;
  TensorLayout layout;
  try {
    layout = evaluate_layout({reinterpret_cast<const char*>(data), size});
  } catch (const Error&) {
    return 0;
  }
  const bool is_readable = layout.depth() <= kMaxLayoutNesting;
  if (is_readable && !(parse_layout(to_string(layout)) == layout)) std::abort();
  const std::optional<bool> injective = is_injective(layout);
  if (layout.size() > kWalk) return 0;
  const TensorLayout right = right_inverse(layout);
  for (std::int64_t i = 0; i < right.size(); ++i) {
    if (layout(right(i)) != i) std::abort();
  }
  try {
    const TensorLayout left = left_inverse(layout);
    if (injective == false) std::abort();
    for (std::int64_t i = 0; i < layout.size(); ++i) {
      if (left(layout(i)) != i) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
