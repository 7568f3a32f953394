#pragma once

#include <vector>

#include "bench/dispatch_inputs.h"
#include "bench/draws.h"
#include "switchyard/router.h"

namespace switchyard {

/// Random weights of a cell's router, in the dtype of its activations. Their scale keeps logits
/// near unit variance. An MLP of random weights prefers some experts for every token, because what
/// gelu gives has a mean.
class RawRouter {
 public:
  RawRouter(Context& context, const Cell& cell, const RoutingSource& source);

  const RouterWeights& weights() const noexcept { return weights_; }

 private:
  Matrix up_, down_, out_;
  RouterWeights weights_;
};

/// Where the router target and the layer take their routing from:
///   uniform, gate   a router on x, which both multiply: x differs from draw to draw. (Normal x and
///                   random rows of a linear router give normal logits: the uniform source.)
///   skew            the same with a linear router, whose first N rows hold BIAS where x holds 1
///   zipf            logits of the source, routed as given: no matrix product leads to them, so
///                   none is timed and t_logit_ms is absent
///   trace           assignments as recorded: no logits, no select
struct RouterInputs {
  /// Throws Error(invalid_argument) for an MLP router where no router runs.
  RouterInputs(Context& context, const Cell& cell, const RoutingSource& source);

  bool has_router = false;
  std::vector<Matrix> x;  ///< [T, H] of each draw, or of all draws without a router
  RawRouter router;       ///< where has_router is false, what a layer is built with
  Draws draws;            ///< logits by the router, where there is one
  PlanOptions options;
  Plans plans;

  ConstMatrixView x_of(std::int64_t draw) const {
    return x[has_router ? static_cast<std::size_t>(draw) : 0].view();
  }
};

/// Whether a cell's logits come from its router.
bool has_router(const Cell& cell);

/// R of a cell's router: as --router-hidden has it, else max(64, H / 2) for mlp and H for
/// mlp_hadamard; 0 for linear.
std::int64_t router_width(const Cell& cell);

/// Bytes of x of all draws and of the router.
double router_input_bytes(const Cell& cell);

/// z_loss, balance_loss and sequence_balance_loss, with coefficient 1, of a draw's logits and what
/// the strategy made of them; nothing without logits. An infinite one is left out.
void add_losses(Record& record, Context& context, const Cell& cell, const Draws& draws,
                std::int64_t draw);

}  // namespace switchyard
