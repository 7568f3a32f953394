#pragma once

#include <string_view>

namespace switchyard {

/// The style sheet and the script of a report: constant text, beside which nothing from a record
/// ever stands in a <style> or <script>.
std::string_view page_style() noexcept;
std::string_view page_script() noexcept;

}  // namespace switchyard
