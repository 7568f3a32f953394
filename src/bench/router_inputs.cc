#include "bench/router_inputs.h"

#include <cmath>

#include "gemm/dense.h"
#include "workload/gate.h"
#include "workload/tensors.h"

namespace switchyard {
namespace {

constexpr std::uint64_t kRouterStream = 16;
constexpr std::uint64_t kFirstTokenStream = 32;  // one per draw

Matrix make_router(Context& context, const Cell& cell) {
  Matrix router(cell.dtype, cell.experts, cell.hidden);
  if (cell.routing == "gate") {
    fill_gate_router(context, router.view(), cell.seed);
  } else {
    fill_normal(context, router.view(), cell.seed, kRouterStream,
                1.0f / std::sqrt(static_cast<float>(cell.hidden)));
  }
  return router;
}

std::vector<Matrix> make_tokens(Context& context, const Cell& cell) {
  std::vector<Matrix> x;
  const std::int64_t count = has_router(cell) ? num_draws(cell) : 1;
  for (std::int64_t d = 0; d < count; ++d) {
    const auto draw = static_cast<std::uint64_t>(d);
    const Matrix& of_draw = x.emplace_back(cell.dtype, cell.tokens, cell.hidden);
    if (cell.routing == "gate") {
      fill_gate_hidden(context, of_draw.view(), cell.seed, draw);
    } else {
      fill_normal(context, of_draw.view(), cell.seed, kFirstTokenStream + draw, 1.0f);
    }
  }
  return x;
}

Draws make_draws(Context& context, const Cell& cell, const RoutingSource& source,
                 const std::vector<Matrix>& x, const Matrix& router) {
  if (!has_router(cell)) return Draws(context, cell, source, num_draws(cell));
  gemm::DenseProduct product(context, router.view(), cell.dtype);
  return Draws(context, cell, num_draws(cell), [&](std::int64_t draw, MatrixView logits) {
    product.run(context, x[static_cast<std::size_t>(draw)].view(), logits);
  });
}

}  // namespace

bool has_router(const Cell& cell) { return cell.routing == "uniform" || cell.routing == "gate"; }

RouterInputs::RouterInputs(Context& context, const Cell& cell, const RoutingSource& source)
    : has_router(switchyard::has_router(cell)),
      x(make_tokens(context, cell)),
      router(make_router(context, cell)),
      draws(make_draws(context, cell, source, x, router)),
      options(plan_options_of(cell)),
      plans(context, draws, options) {}

double router_input_bytes(const Cell& cell) {
  const double draws = has_router(cell) ? static_cast<double>(num_draws(cell)) : 1;
  return (draws * static_cast<double>(cell.tokens) + cell.experts) *
         static_cast<double>(cell.hidden) * static_cast<double>(size_of(cell.dtype));
}

}  // namespace switchyard
