#pragma once

#include <string>
#include <string_view>

namespace switchyard {

/// `text` as content or quoted attribute of HTML and XML: the five special characters become
/// entities, and what these formats cannot hold is replaced as clean_text does.
std::string escaped(std::string_view text);

}  // namespace switchyard
