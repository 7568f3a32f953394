#include "cli/formats.h"

#include "base/check.h"

namespace switchyard::cli {
namespace {

constexpr std::array<Named<PrintFormat>, 2> kNames = {{
    {PrintFormat::table, "table"},
    {PrintFormat::json, "json"},
}};

}  // namespace

Option print_format_option(PrintFormat& format) {
  return {
      {"-o", "--format"}, "FORMAT", "table or json (table)", [&format](const std::string& text) {
        format = value_in(kNames, "format", text);
      }};
}

}  // namespace switchyard::cli
