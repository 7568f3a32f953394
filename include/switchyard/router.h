#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard {

/// How a router turns a token x [H] into E logits.
///   linear        out x                         out [E, H]
///   mlp           out gelu(up x)                up [R, H], out [E, R]
///   mlp_hadamard  out (x * (down gelu(up x)))   up [R, H], down [H, R], out [E, H], * by element
/// gelu is the exact one. There are no biases, as in the routers of Mixtral, OLMoE, Qwen and
/// DeepSeek. The last two are those of the report of moe-routing-bench, where R is max(64, H / 2)
/// for mlp and H for mlp_hadamard.
enum class RouterArch { linear, mlp, mlp_hadamard };

std::string_view name_of(RouterArch arch) noexcept;
/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
RouterArch router_arch_from_name(std::string_view name);

/// The matrices of a router, in memory the caller owns, all of one dtype: f32 or the tokens'.
/// A single matrix [E, H] is a linear router by itself.
struct RouterWeights {
  RouterArch arch = RouterArch::linear;
  ConstMatrixView up, down, out;

  RouterWeights() = default;
  RouterWeights(ConstMatrixView linear) : out(linear) {}  // NOLINT: a matrix is a linear router
  RouterWeights(MatrixView linear) : out(linear) {}       // NOLINT
  static RouterWeights mlp(ConstMatrixView up, ConstMatrixView out);
  static RouterWeights mlp_hadamard(ConstMatrixView up, ConstMatrixView down, ConstMatrixView out);

  std::int64_t num_experts() const noexcept { return out.rows; }  ///< E
  std::int64_t hidden() const noexcept {                          ///< H
    return arch == RouterArch::linear ? out.cols : up.cols;
  }
  std::int64_t width() const noexcept { return up.rows; }  ///< R; 0 for linear
};

/// A router with its weights prepacked.
class Router {
 public:
  /// Copies the weights; `tokens` is the dtype of x.
  /// Throws Error(invalid_argument) naming the matrix that does not fit.
  Router(Context& context, const RouterWeights& weights, DType tokens);
  ~Router();
  Router(Router&&) noexcept;
  Router& operator=(Router&&) noexcept;

  /// logits [T, E] f32 of x [T, H]. Sums in f32; gelu(up x) and x * (down ...) are rounded to the
  /// tokens' dtype. A row's bits do not depend on the others.
  /// Throws Error(invalid_argument) for a shape or dtype that does not fit.
  void logits(Context& context, ConstMatrixView x, MatrixView logits);

  struct Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard
