#include "bench/naive_topk.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/context.h"

namespace switchyard {
namespace {

void softmax(const float* x, int count, float* out) {
  const float max = *std::max_element(x, x + count);
  float sum = 0;
  for (int e = 0; e < count; ++e) sum += out[e] = std::exp(x[e] - max);
  for (int e = 0; e < count; ++e) out[e] /= sum;
}

/// Ids and values of the k largest of `x`, ties to the lower id.
void largest(const float* x, const float* values, int count, int k, std::int32_t* ids,
             std::int32_t* expert, float* weight) {
  std::iota(ids, ids + count, 0);
  std::partial_sort(ids, ids + k, ids + count, [x](std::int32_t a, std::int32_t b) {
    return x[a] != x[b] ? x[a] > x[b] : a < b;
  });
  for (int i = 0; i < k; ++i) {
    expert[i] = ids[i];
    weight[i] = values[ids[i]];
  }
}

}  // namespace

NaiveTopk::NaiveTopk(Context& context, std::int64_t tokens, int experts)
    : probabilities_(DType::f32, tokens, experts),
      ids_(static_cast<std::size_t>(context.threads()) * static_cast<std::size_t>(experts)) {}

void NaiveTopk::route(Context& context, ConstMatrixView logits, const RouterParams& params,
                      Routing& routing) {
  const auto experts = static_cast<int>(logits.cols);
  const int k = params.top_k;
  routing.num_tokens = logits.rows;
  routing.num_experts = experts;
  routing.token_begin.resize(static_cast<std::size_t>(logits.rows) + 1);
  for (std::size_t t = 0; t < routing.token_begin.size(); ++t) {
    routing.token_begin[t] = static_cast<std::int64_t>(t) * k;
  }
  routing.expert.resize(static_cast<std::size_t>(logits.rows * k));
  routing.weight.resize(routing.expert.size());

  const auto row = [](auto view, std::int64_t t) {
    return reinterpret_cast<const float*>(view.row(t));
  };
  const MatrixView probabilities = probabilities_.view();
  auto& pool = pool_of(context);
  pool.for_ranges(logits.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      softmax(row(logits, t), experts, reinterpret_cast<float*>(probabilities.row(t)));
    }
  });
  pool.for_ranges(logits.rows, 16, [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t t = begin; t < end; ++t) {
      largest(row(logits, t), row(probabilities, t), experts, k,
              &ids_[static_cast<std::size_t>(thread) * experts],
              &routing.expert[static_cast<std::size_t>(t * k)],
              &routing.weight[static_cast<std::size_t>(t * k)]);
    }
  });
  if (!params.norm_topk) return;
  pool.for_ranges(logits.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      float* weight = &routing.weight[static_cast<std::size_t>(t * k)];
      const float sum = std::accumulate(weight, weight + k, 0.0f);
      for (int i = 0; i < k; ++i) weight[i] /= sum;
    }
  });
}

void require_topk_softmax(const Cell& cell) {
  require(cell.strategy == "topk_softmax",
          "implementation {} with strategy {}: it can only do topk_softmax", cell.impl,
          cell.strategy);
}

}  // namespace switchyard
