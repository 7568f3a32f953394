#pragma once

#include <optional>
#include <string_view>

#include "switchyard/dtype.h"
#include "switchyard/quant.h"

namespace switchyard {

/// How the experts' weights are stored: as elements, or as integers made from bf16 ones.
struct WeightFormat {
  DType dtype = DType::bf16;         ///< before quantisation
  std::optional<QuantFormat> quant;  ///< of the experts' own copy

  bool operator==(const WeightFormat&) const = default;
};

/// "f32", "bf16", "f16", "int8" or "int4".
std::string_view name_of(const WeightFormat& format) noexcept;

/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
WeightFormat weight_format_from_name(std::string_view name);

/// "absmax" or "mse".
std::string_view name_of(ScaleSearch search) noexcept;

/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
ScaleSearch scale_search_from_name(std::string_view name);

/// Bytes of a [rows, cols] matrix in a format, scales and zero points included. In double: see
/// bench/cost.h.
double matrix_bytes(const WeightFormat& format, const QuantOptions& options, double rows,
                    double cols);

}  // namespace switchyard
