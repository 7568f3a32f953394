#pragma once

#include <cstdint>

namespace switchyard::gemm {

/// Which rows are whose, on a device: what a product needs of a DevicePlan.
struct GpuRows {
  int num_experts = 0;
  std::int64_t rows = 0;      ///< that the matrices have, padding included
  std::int64_t expected = 0;  ///< kept ones, as far as the host knows: for the choice of tiles
  const std::int64_t* expert_begin = nullptr;  ///< [E]
  const std::int64_t* expert_rows = nullptr;   ///< [E]
  const std::int32_t* token_of_row = nullptr;  ///< [rows] where rows are gathered, else null
};

}  // namespace switchyard::gemm
