#include "bench/draws.h"

#include <algorithm>

namespace switchyard {

std::int64_t num_draws(const Cell& cell) {
  return std::clamp<std::int64_t>(16384 / std::max<std::int64_t>(1, cell.tokens), 2, 8);
}

Strategy strategy_of(const Cell& cell) { return StrategyRegistry::builtin().find(cell.strategy); }

WorkloadShape shape_of(const Cell& cell) {
  return {
      .tokens = cell.tokens, .hidden = cell.hidden, .experts = cell.experts, .top_k = cell.top_k};
}

Draws::Draws(Context& context, const Cell& cell, const RoutingSource& source, std::int64_t count)
    : tokens_(cell.tokens), experts_(cell.experts) {
  const WorkloadShape shape = shape_of(cell);
  if (!source.gives_logits()) {
    for (std::int64_t d = 0; d < count; ++d) {
      routings_.push_back(source.routing(context, shape, cell.seed, static_cast<std::uint64_t>(d)));
    }
    return;
  }
  draw_logits(context, cell, count, [&](std::int64_t draw, MatrixView out) {
    source.logits(
        context, shape, cell.seed, static_cast<std::uint64_t>(draw),
        {reinterpret_cast<float*>(out.data), static_cast<std::size_t>(out.rows * out.cols)});
  });
}

Draws::Draws(Context& context, const Cell& cell, std::int64_t count, const FillLogits& fill)
    : tokens_(cell.tokens), experts_(cell.experts) {
  draw_logits(context, cell, count, fill);
}

void Draws::draw_logits(Context& context, const Cell& cell, std::int64_t count,
                        const FillLogits& fill) {
  const Strategy strategy = strategy_of(cell);
  for (std::int64_t d = 0; d < count; ++d) {
    auto* elements = logits_.emplace_back().elements<float>(tokens_ * experts_);
    fill(d, matrix(elements, tokens_, experts_));
    route(context, strategy, input(d), cell.router, routings_.emplace_back());
  }
}

ConstMatrixView Draws::logits(std::int64_t draw) const {
  const Buffer& buffer = logits_[static_cast<std::size_t>(draw)];
  return matrix(reinterpret_cast<const float*>(buffer.data()), tokens_, experts_);
}

}  // namespace switchyard
