#include <cstring>

#include "pack/pack_kernel.h"

namespace switchyard {

void pack_bytes_portable(const PackRows& rows, std::int64_t begin, std::int64_t end) noexcept {
  const auto row_bytes = static_cast<std::size_t>(rows.row_bytes);
  for (std::int64_t r = begin; r < end; ++r) {
    std::byte* out = rows.out + row_of(rows, r) * rows.out_stride;
    const std::int32_t token = rows.token_of_row[r];
    if (token < 0) {
      std::memset(out, 0, row_bytes);
    } else {
      std::memcpy(out, rows.in + token * rows.in_stride, row_bytes);
    }
  }
}

}  // namespace switchyard
