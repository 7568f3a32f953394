#pragma once

#include "bench/dispatch_inputs.h"
#include "switchyard/routing.h"

namespace switchyard {

/// topk_softmax as people first write it, one pass over memory after the other: softmax over all
/// experts into a [T, E] matrix, then std::partial_sort of the expert ids of each token.
class NaiveTopk {
 public:
  NaiveTopk(Context& context, std::int64_t tokens, int experts);

  void route(Context& context, ConstMatrixView logits, const RouterParams& params,
             Routing& routing);

 private:
  Matrix probabilities_;           // [T, E]
  std::vector<std::int32_t> ids_;  // [threads, E]
};

/// Throws Error(invalid_argument) unless the cell routes by topk_softmax, which is all it can do.
void require_topk_softmax(const Cell& cell);

}  // namespace switchyard
