#pragma once

#include <string>
#include <string_view>

namespace switchyard {

/// Makes `content` the whole content of the file at `path`: written aside, then renamed, so that
/// whoever opens the path sees the old content or the new, never a part. A link stays a link.
/// Throws Error(io) with the path and the system's reason; the old file is then untouched.
void replace_file(const std::string& path, std::string_view content);

}  // namespace switchyard
