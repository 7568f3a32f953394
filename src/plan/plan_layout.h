#pragma once

#include <cstdint>

#include "switchyard/layout.h"

namespace switchyard {

/// Where the elements of packed rows [R, H] lie, when rows are dense (row stride H). Both are
/// row-major and only name what a plan's row numbers mean; which rows hold tokens is the plan's.

/// Layout::capacity, [E, C, H]: element h of expert e's row c, row e * C + c of the plan.
TensorLayout capacity_layout(std::int64_t num_experts, std::int64_t capacity, std::int64_t hidden);

/// Layout::block, [blocks, block_rows, H]: element h of row i of block b, row b * block_rows + i of
/// the plan. Expert e owns the blocks from expert_begin[e] / block_rows on, ceil(n_e / block_rows)
/// of them; what is left of its last block is padding.
TensorLayout block_layout(std::int64_t num_blocks, std::int64_t block_rows, std::int64_t hidden);

}  // namespace switchyard
