#pragma once

#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// The candidate nearest to `name` by edit distance, or "" when none is near enough to be a typo.
std::string_view nearest(std::string_view name, std::span<const std::string_view> candidates);

/// "unknown strategy 'topk_sofmax': expected one of a, b, c (did you mean topk_softmax?)"
std::string unknown_name(std::string_view what, std::string_view name,
                         std::span<const std::string_view> candidates);

}  // namespace switchyard
