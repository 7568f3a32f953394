#pragma once

#include <vector>

#include "bench/dispatch_inputs.h"
#include "bench/draws.h"

namespace switchyard {

/// Where the router target and the layer take their routing from:
///   uniform, gate   a linear router on x, which both multiply: x differs from draw to draw.
///                   (Normal x and random router rows give normal logits: the uniform source.)
///   zipf, skew      logits of the source, routed as given: no matrix product leads to them, so
///   none
///                   is timed and t_logit_ms is absent
///   trace           assignments as recorded: no logits, no select
struct RouterInputs {
  RouterInputs(Context& context, const Cell& cell, const RoutingSource& source);

  bool has_router = false;
  std::vector<Matrix> x;  ///< [T, H] of each draw, or of all draws without a router
  Matrix router;          ///< [E, H]; where has_router is false, what a layer is built with
  Draws draws;            ///< logits by the router, where there is one
  PlanOptions options;
  Plans plans;

  ConstMatrixView x_of(std::int64_t draw) const {
    return x[has_router ? static_cast<std::size_t>(draw) : 0].view();
  }
};

/// Whether a cell's routing goes through a linear router.
bool has_router(const Cell& cell);

/// Bytes of x of all draws and of the router.
double router_input_bytes(const Cell& cell);

}  // namespace switchyard
