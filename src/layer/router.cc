#include "layer/router.h"

#include <algorithm>

#include "base/check.h"
#include "base/context.h"

namespace switchyard {
namespace {

constexpr std::array<Named<RouterArch>, 3> kArchs = {{
    {RouterArch::linear, "linear"},
    {RouterArch::mlp, "mlp"},
    {RouterArch::mlp_hadamard, "mlp_hadamard"},
}};

/// Tokens that share what lies between two products, so that it need not grow with T.
constexpr std::int64_t kPassTokens = 512;

void require_matrix(std::string_view name, const ConstMatrixView& view, std::int64_t rows,
                    std::int64_t cols, DType dtype) {
  require_shape(name, view, rows, cols);
  require(view.dtype == dtype, "{} is {}: expected {} as out", name, name_of(view.dtype),
          name_of(dtype));
}

template <class T>
void multiply(const float* gate, const std::byte* x, std::int64_t count, std::byte* to) noexcept {
  const auto* token = reinterpret_cast<const T*>(x);
  auto* product = reinterpret_cast<T*>(to);
  for (std::int64_t j = 0; j < count; ++j) {
    product[j] = from_float<T>(gate[j] * to_float(token[j]));
  }
}

void multiply(DType dtype, const float* gate, const std::byte* x, std::int64_t count,
              std::byte* to) noexcept {
  switch (dtype) {
    case DType::f32: return multiply<float>(gate, x, count, to);
    case DType::bf16: return multiply<bf16>(gate, x, count, to);
    case DType::f16: return multiply<f16>(gate, x, count, to);
  }
}

template <class View>
View rows_of(View view, std::int64_t begin, std::int64_t count) {
  view.data = view.row(begin);
  view.rows = count;
  return view;
}

/// logits = out (x * ffn(x))
void run_hadamard(Context& context, Router::Impl& router, ConstMatrixView x, MatrixView logits) {
  const std::int64_t hidden = router.hidden, size = static_cast<std::int64_t>(size_of(x.dtype));
  auto* memory = router.gates.elements<std::byte>(
      std::min(kPassTokens, x.rows) * hidden * (static_cast<std::int64_t>(sizeof(float)) + size));
  const MatrixView gates = matrix(reinterpret_cast<float*>(memory), x.rows, hidden);
  const MatrixView products{memory + x.rows * hidden * static_cast<std::int64_t>(sizeof(float)),
                            x.dtype, x.rows, hidden, hidden};
  router.ffn->run(context, x, gates);
  pool_of(context).for_ranges(x.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      multiply(x.dtype, reinterpret_cast<const float*>(gates.row(t)), x.row(t), hidden,
               products.row(t));
    }
  });
  router.product->run(context, products, logits);
}

}  // namespace

void require_router(const RouterWeights& weights, DType tokens) {
  const ConstMatrixView& out = weights.out;
  require(out.rows >= 1 && out.cols >= 1, "router is [{}, {}]: expected [E, H]", out.rows,
          out.cols);
  const std::int64_t hidden = weights.hidden(), width = weights.width();
  const bool is_mlp = weights.arch == RouterArch::mlp;
  require_shape("router", out, out.rows, is_mlp ? width : hidden);
  require(out.dtype == DType::f32 || out.dtype == tokens,
          "router is {}: expected f32 or the tokens' {}", name_of(out.dtype), name_of(tokens));
  if (weights.arch == RouterArch::linear) return;
  require(width >= 1 && hidden >= 1, "router up is [{}, {}]: expected [R, H]", width, hidden);
  require_matrix("router up", weights.up, width, hidden, out.dtype);
  if (!is_mlp) require_matrix("router down", weights.down, hidden, width, out.dtype);
}

std::string_view name_of(RouterArch arch) noexcept { return name_in(kArchs, arch); }
RouterArch router_arch_from_name(std::string_view name) { return value_in(kArchs, "router", name); }

RouterWeights RouterWeights::mlp(ConstMatrixView up, ConstMatrixView out) {
  RouterWeights weights(out);
  weights.arch = RouterArch::mlp;
  weights.up = up;
  return weights;
}

RouterWeights RouterWeights::mlp_hadamard(ConstMatrixView up, ConstMatrixView down,
                                          ConstMatrixView out) {
  RouterWeights weights(out);
  weights.arch = RouterArch::mlp_hadamard;
  weights.up = up;
  weights.down = down;
  return weights;
}

Router::Router(Context& context, const RouterWeights& weights, DType tokens) {
  require_router(weights, tokens);
  impl_ = std::make_unique<Impl>();
  impl_->arch = weights.arch;
  impl_->tokens = tokens;
  impl_->num_experts = weights.num_experts();
  impl_->hidden = weights.hidden();
  if (weights.arch != RouterArch::linear) {
    const bool is_mlp = weights.arch == RouterArch::mlp;
    impl_->ffn.emplace(context, weights.up, is_mlp ? weights.out : weights.down, Activation::gelu,
                       tokens);
  }
  if (weights.arch != RouterArch::mlp) impl_->product.emplace(context, weights.out, tokens);
}

Router::~Router() = default;
Router::Router(Router&&) noexcept = default;
Router& Router::operator=(Router&&) noexcept = default;

void Router::logits(Context& context, ConstMatrixView x, MatrixView logits) {
  require_shape("x", x, x.rows, impl_->hidden);
  require(x.dtype == impl_->tokens, "x is {}: expected {}, which the router was made for",
          name_of(x.dtype), name_of(impl_->tokens));
  require_shape("logits", logits, x.rows, impl_->num_experts);
  require(logits.dtype == DType::f32, "logits are {}: expected f32", name_of(logits.dtype));
  if (impl_->arch == RouterArch::linear) return impl_->product->run(context, x, logits);
  for (std::int64_t begin = 0; begin < x.rows; begin += kPassTokens) {
    const std::int64_t count = std::min(kPassTokens, x.rows - begin);
    const ConstMatrixView tokens = rows_of(x, begin, count);
    const MatrixView out = rows_of(logits, begin, count);
    if (impl_->arch == RouterArch::mlp) {
      impl_->ffn->run(context, tokens, out);
    } else {
      run_hadamard(context, *impl_, tokens, out);
    }
  }
}

}  // namespace switchyard
