#pragma once

#include <cstddef>
#include <cstdint>

namespace switchyard {

namespace cuda {
class Gpu;
}

/// What pack on a device copies; see PackRows.
struct PackJob {
  const std::byte* in;
  std::int64_t in_stride;
  const std::int32_t* token_of_row;
  const std::int64_t* num_rows;  ///< [1], on the device
  std::int64_t max_rows;
  std::byte* out;
  std::int64_t out_stride;
  std::int64_t row_bytes;
};

void pack_on_device(cuda::Gpu& gpu, const PackJob& job);

}  // namespace switchyard
