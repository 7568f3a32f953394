#pragma once

#include <string_view>

namespace switchyard {

/// "0.1.0": semantic version of the library.
std::string_view version() noexcept;

/// The commit this was built from, 40 hex digits, or "unknown" outside a git checkout.
std::string_view git_sha() noexcept;

/// True when the checkout had uncommitted changes when it was built.
bool git_is_dirty() noexcept;

/// "gcc 12.2.0" or "clang 14.0.6".
std::string_view compiler() noexcept;

}  // namespace switchyard
