#pragma once

#include <span>
#include <string_view>

namespace switchyard::cli {

/// An optional part of the build, as cmake/Parts.cmake found it.
struct Part {
  std::string_view name;
  bool found;
  std::string_view gives;
  std::string_view package;  ///< the Debian package that brings it
};

std::span<const Part> parts() noexcept;

}  // namespace switchyard::cli
