#include "plan/plan_layout.h"

namespace switchyard {

TensorLayout capacity_layout(std::int64_t num_experts, std::int64_t capacity, std::int64_t hidden) {
  return TensorLayout::row_major(int_tuple(num_experts, capacity, hidden));
}

TensorLayout block_layout(std::int64_t num_blocks, std::int64_t block_rows, std::int64_t hidden) {
  return TensorLayout::row_major(int_tuple(num_blocks, block_rows, hidden));
}

}  // namespace switchyard
