#include "base/check.h"
#include "base/context.h"
#include "gemm/implementations.h"
#include "gemm/product.h"
#include "gemm/rows.h"

// What needs no permutation: every expert multiplies all rows, in the order they came, and a mask
// picks the rows that are its own. Kernels, weight format and epilogues are those of `grouped`, so
// that the two differ in the work alone.

namespace switchyard::gemm {
namespace {

class Masked final : public Experts {
 public:
  Masked(Context& context, const ExpertWeights& weights, DType activations)
      : num_experts_(weights.up.count),
        activations_(activations),
        activation_(weights.activation),
        up_(context, find_kernel(context.isa(), weights.up.dtype, activations),
            weights.is_gated() ? PackedWeights(context, weights.gate, weights.up)
                               : PackedWeights(context, weights.up)),
        down_(context, up_.kernel(), PackedWeights(context, weights.down)) {}

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    const std::int64_t hidden = down_.weights().columns();
    require_forward(plan, in, out, num_experts_, hidden, activations_);
    if (in.rows == 0 || out.rows == 0) return;
    Arena::Scope scope(arena_of(context));
    const auto size = static_cast<std::int64_t>(size_of(activations_));
    const MatrixView all{scope.take<std::byte>(in.rows * hidden * size).data(), activations_,
                         in.rows, hidden, hidden};
    const PanelShape shape = PanelShape::of_outputs(up_.kernel(), up_.weights().columns());
    const Panel inner{shape, inner_.elements<std::byte>(shape.bytes(round_up(in.rows, kTileRows))),
                      std::min(up_.blocking().rows, down_.blocking().rows)};
    const bool is_by_token = plan.layout == Layout::fused;
    for (std::int64_t e = 0; e < num_experts_; ++e) {
      const Group group{e, in.rows, 0, 0};
      up_.run(context, {&group, 1}, GatherSource{in, nullptr}, activation_, inner);
      down_.run(context, {&group, 1}, inner, all);
      const std::int64_t begin = plan.expert_begin[static_cast<std::size_t>(e)];
      MatrixView own = out;
      own.data = out.row(begin);
      copy_rows(pool_of(context), plan.expert_rows[static_cast<std::size_t>(e)], all, own,
                [&](std::int64_t i) -> std::int64_t {
                  const std::int64_t row = begin + i;
                  return is_by_token ? plan.token_of_row[static_cast<std::size_t>(row)] : row;
                });
    }
  }

  std::string kernel() const override { return name_of(up_.kernel()); }
  std::string isa() const override { return std::string(switchyard::name_of(up_.kernel().isa)); }
  std::int64_t weight_bytes() const override {
    return up_.weights().bytes() + down_.weights().bytes();
  }

 private:
  std::int64_t num_experts_;
  DType activations_;
  Activation activation_;
  GroupedProduct up_;
  GroupedProduct down_;
  Buffer inner_;
};

}  // namespace

std::unique_ptr<Experts> make_masked(Context& context, const ExpertWeights& weights,
                                     DType activations) {
  require(weights.up.count <= kMaxMaskedExperts,
          "experts implementation masked_matmul with {} experts: expected at most {}, because each "
          "multiplies the rows of all and the mask then keeps one part in {}",
          weights.up.count, kMaxMaskedExperts, weights.up.count);
  return std::make_unique<Masked>(context, weights, activations);
}

}  // namespace switchyard::gemm
