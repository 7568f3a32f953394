#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include "switchyard/error.h"
#include "workload/trace_formats.h"

// The counts reader on arbitrary bytes, whatever format detection would have said: it ends in
// traces or in an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
  try {
    LineReader lines(in, "fuzz");
    if (!lines.next()) return 0;
    TraceBuilder builder(lines, TraceFormat::counts, TraceBuilder::Keep::all, {});
    read_counts(lines, builder);
    builder.finish();
  } catch (const Error&) {
  }
  return 0;
}
