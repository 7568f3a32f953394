#include "bench/router_inputs.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "bench/cost.h"
#include "bench/work.h"
#include "switchyard/losses.h"
#include "workload/gate.h"
#include "workload/tensors.h"

namespace switchyard {
namespace {

constexpr std::uint64_t kRouterStream = 16;      // to 18
constexpr std::uint64_t kFirstTokenStream = 32;  // one per draw

// sqrt of the mean of gelu(z)^2 for standard normal z.
constexpr float kGeluRoot = 0.6522f;

Matrix random_weights(Context& context, const Cell& cell, std::int64_t rows, std::int64_t cols,
                      std::uint64_t stream, float input_root) {
  Matrix matrix(cell.dtype, rows, cols);
  fill_normal(context, matrix.view(), cell.seed, stream,
              1.0f / (input_root * std::sqrt(static_cast<float>(cols))));
  return matrix;
}

/// column 0 of row i = value(i)
template <class Value>
void set_first_column(MatrixView view, Value&& value) {
  for (std::int64_t i = 0; i < view.rows; ++i) {
    switch (view.dtype) {
      case DType::f32: *reinterpret_cast<float*>(view.row(i)) = value(i); break;
      case DType::bf16: *reinterpret_cast<bf16*>(view.row(i)) = from_float<bf16>(value(i)); break;
      case DType::f16: *reinterpret_cast<f16*>(view.row(i)) = from_float<f16>(value(i)); break;
    }
  }
}

Matrix linear_router(Context& context, const Cell& cell, const RoutingSource& source) {
  if (cell.routing == "gate") {
    Matrix router(cell.dtype, cell.experts, cell.hidden);
    fill_gate_router(context, router.view(), cell.seed);
    return router;
  }
  Matrix router = random_weights(context, cell, cell.experts, cell.hidden, kRouterStream, 1.0f);
  if (const RoutingSource::Skew* skew = source.skew()) {
    set_first_column(router.view(),
                     [&](std::int64_t e) { return e < skew->experts ? skew->bias : 0.0f; });
  }
  return router;
}

std::vector<Matrix> make_tokens(Context& context, const Cell& cell, const RoutingSource& source) {
  std::vector<Matrix> x;
  const bool is_routed = has_router(cell);
  const std::int64_t count = is_routed ? num_draws(cell) : 1;
  for (std::int64_t d = 0; d < count; ++d) {
    const auto draw = static_cast<std::uint64_t>(d);
    const Matrix& of_draw = x.emplace_back(cell.dtype, cell.tokens, cell.hidden);
    if (cell.routing == "gate") {
      fill_gate_hidden(context, of_draw.view(), cell.seed, draw);
    } else {
      fill_normal(context, of_draw.view(), cell.seed, kFirstTokenStream + draw, 1.0f);
    }
    if (is_routed && source.skew() != nullptr) {
      set_first_column(of_draw.view(), [](std::int64_t) { return 1.0f; });
    }
  }
  return x;
}

Draws make_draws(Context& context, const Cell& cell, const RoutingSource& source,
                 const std::vector<Matrix>& x, const RawRouter& raw) {
  if (!has_router(cell)) return Draws(context, cell, source, num_draws(cell));
  Router router(context, raw.weights(), cell.dtype);
  return Draws(context, cell, num_draws(cell), [&](std::int64_t draw, MatrixView logits) {
    router.logits(context, x[static_cast<std::size_t>(draw)].view(), logits);
  });
}

bool require_router_fits(const Cell& cell) {
  require(
      cell.router_arch == RouterArch::linear || has_router(cell),
      "--router {} with --routing {}: expected uniform or gate, where logits come from a router",
      name_of(cell.router_arch), cell.routing);
  return has_router(cell);
}

}  // namespace

RawRouter::RawRouter(Context& context, const Cell& cell, const RoutingSource& source) {
  if (cell.router_arch == RouterArch::linear) {
    out_ = linear_router(context, cell, source);
    weights_ = out_.view();
    return;
  }
  const std::int64_t hidden = cell.hidden, width = router_width(cell);
  up_ = random_weights(context, cell, width, hidden, kRouterStream, 1.0f);
  if (cell.router_arch == RouterArch::mlp) {
    out_ = random_weights(context, cell, cell.experts, width, kRouterStream + 1, kGeluRoot);
    weights_ = RouterWeights::mlp(up_.view(), out_.view());
  } else {
    down_ = random_weights(context, cell, hidden, width, kRouterStream + 2, kGeluRoot);
    out_ = random_weights(context, cell, cell.experts, hidden, kRouterStream + 1, 1.0f);
    weights_ = RouterWeights::mlp_hadamard(up_.view(), down_.view(), out_.view());
  }
}

RouterInputs::RouterInputs(Context& context, const Cell& cell, const RoutingSource& source)
    : has_router(require_router_fits(cell)),
      x(make_tokens(context, cell, source)),
      router(context, cell, source),
      draws(make_draws(context, cell, source, x, router)),
      options(plan_options_of(cell)),
      plans(context, draws, options) {}

bool has_router(const Cell& cell) {
  const bool is_linear = cell.router_arch == RouterArch::linear;
  return cell.routing == "uniform" || cell.routing == "gate" ||
         (is_linear && cell.routing.starts_with("skew:"));
}

std::int64_t router_width(const Cell& cell) {
  if (cell.router_arch == RouterArch::linear) return 0;
  if (cell.router_hidden > 0) return cell.router_hidden;
  if (cell.router_arch == RouterArch::mlp_hadamard) return cell.hidden;
  return std::max<std::int64_t>(64, cell.hidden / 2);
}

double router_input_bytes(const Cell& cell) {
  const double draws = has_router(cell) ? static_cast<double>(num_draws(cell)) : 1;
  return row_bytes(cell, draws * static_cast<double>(cell.tokens)) + router_bytes(cell);
}

void add_losses(Record& record, Context& context, const Cell& cell, const Draws& draws,
                std::int64_t draw) {
  if (!draws.has_logits()) return;
  const auto add = [&](const char* field, double loss) {
    if (std::isfinite(loss)) record[field] = loss;
  };
  const ConstMatrixView logits = draws.logits(draw);
  const Routing& routing = draws.routing(draw);
  const Affinity affinity = strategy_of(cell).affinity;
  add("z_loss", z_loss(context, logits, 1));
  add("balance_loss", balance_loss(context, logits, routing, affinity, 1));
  const std::int64_t length =
      cell.seq_len > 0 ? cell.seq_len : std::max<std::int64_t>(1, cell.tokens);
  add("sequence_balance_loss",
      sequence_balance_loss(context, logits, routing, affinity, length, 1));
}

}  // namespace switchyard
