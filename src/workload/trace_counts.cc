#include <fmt/format.h>

#include "workload/trace_formats.h"

namespace switchyard {

void read_counts(LineReader& lines, TraceBuilder& builder) {
  while (lines.next()) {  // the line it is at is the header
    const auto fields = csv_fields(lines, 6);
    const std::int64_t layer = csv_integer(lines, "layer", fields[3]);
    builder.add_load(fmt::format("{}/{}/{}/{}", fields[0], fields[1], fields[2], layer),
                     csv_integer(lines, "expert", fields[4]),
                     csv_integer(lines, "count", fields[5]));
  }
}

}  // namespace switchyard
