#include "bench/weights.h"

#include <array>
#include <cmath>

#include "base/check.h"
#include "base/names.h"

namespace switchyard {
namespace {

constexpr std::array<Named<QuantFormat>, 2> kQuantFormats = {{
    {QuantFormat::int8, "int8"},
    {QuantFormat::int4, "int4"},
}};

constexpr std::array<Named<ScaleSearch>, 2> kSearches = {{
    {ScaleSearch::absmax, "absmax"},
    {ScaleSearch::mse, "mse"},
}};

}  // namespace

std::string_view name_of(const WeightFormat& format) noexcept {
  return format.quant ? name_of(*format.quant) : name_of(format.dtype);
}

WeightFormat weight_format_from_name(std::string_view name) {
  for (const auto& [format, spelling] : kQuantFormats) {
    if (name == spelling) return {DType::bf16, format};
  }
  try {
    return {dtype_from_name(name), {}};
  } catch (const Error&) {
    constexpr std::string_view kNames[] = {"f32", "bf16", "f16", "int8", "int4"};
    throw Error(ErrorCode::invalid_argument, unknown_name("weights", name, kNames));
  }
}

std::string_view name_of(ScaleSearch search) noexcept { return name_in(kSearches, search); }

ScaleSearch scale_search_from_name(std::string_view name) {
  return value_in(kSearches, "scale search", name);
}

double matrix_bytes(const WeightFormat& format, const QuantOptions& options, double rows,
                    double cols) {
  if (!format.quant) return rows * cols * static_cast<double>(size_of(format.dtype));
  if (*format.quant == QuantFormat::int8) return rows * (cols + 4);
  const double groups = std::ceil(cols / static_cast<double>(options.group));
  return rows * (std::ceil(cols / 2) + groups * (options.zero_points ? 3 : 2));
}

}  // namespace switchyard
