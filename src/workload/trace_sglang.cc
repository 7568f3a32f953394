#include <fmt/format.h>

#include "workload/trace_formats.h"

namespace switchyard {

void read_sglang(LineReader& lines, TraceBuilder& builder) {
  while (lines.next()) {  // the line it is at is the header
    const auto fields = csv_fields(lines, 3);
    builder.add_load(fmt::to_string(csv_integer(lines, "layer_id", fields[0])),
                     csv_integer(lines, "expert_id", fields[1]),
                     csv_integer(lines, "count", fields[2]));
  }
}

}  // namespace switchyard
