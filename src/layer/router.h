#pragma once

#include <optional>

#include "base/buffer.h"
#include "gemm/dense.h"
#include "switchyard/router.h"

namespace switchyard {

/// Throws as Router's constructor does.
void require_router(const RouterWeights& weights, DType tokens);

struct Router::Impl {
  RouterArch arch;
  DType tokens;
  std::int64_t num_experts, hidden;
  std::optional<gemm::DenseFfn> ffn;          ///< up and out of mlp, up and down of mlp_hadamard
  std::optional<gemm::DenseProduct> product;  ///< out, but of mlp
  Buffer gates;                               ///< [tokens of a pass, H] f32, and x times it
};

}  // namespace switchyard
