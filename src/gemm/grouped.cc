#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/context.h"
#include "gemm/implementations.h"
#include "gemm/product.h"

// Two products: gate and up with the activation in the epilogue, whose output is already the panel
// that the second one, down, multiplies. Token rows are gathered in the first one's panel load, so
// Layout::fused costs no more than packed rows.

namespace switchyard::gemm {
namespace {

class Grouped final : public Experts {
 public:
  Grouped(Context& context, const ExpertWeights& weights, DType activations)
      : num_experts_(weights.up.count),
        activations_(activations),
        activation_(weights.activation),
        up_(context, find_kernel(context.isa(), weights.up.dtype, activations),
            weights.is_gated() ? PackedWeights(context, weights.gate, weights.up)
                               : PackedWeights(context, weights.up)),
        down_(context, up_.kernel(), PackedWeights(context, weights.down)) {}

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    require_forward(plan, in, out, num_experts_, down_.weights().columns(), activations_);
    groups_.clear();
    panel_groups_.clear();
    std::int64_t panel_rows = 0;
    for (int e = 0; e < plan.num_experts; ++e) {
      const std::int64_t rows = plan.expert_rows[static_cast<std::size_t>(e)];
      const std::int64_t begin = plan.expert_begin[static_cast<std::size_t>(e)];
      if (rows == 0) continue;
      groups_.push_back({e, rows, begin, panel_rows});
      panel_groups_.push_back({e, rows, panel_rows, begin});
      panel_rows += round_up(rows, kTileRows);
    }
    const PanelShape shape = PanelShape::of_outputs(up_.kernel(), up_.weights().columns());
    const Panel hidden{shape, hidden_.elements<std::byte>(shape.bytes(panel_rows)),
                       std::min(up_.blocking().rows, down_.blocking().rows)};
    const bool gather = plan.layout == Layout::fused;
    const GatherSource source{in, gather ? plan.token_of_row.data() : nullptr};
    up_.run(context, groups_, source, activation_, hidden);
    down_.run(context, panel_groups_, hidden, out);
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
  std::vector<Group> groups_;        // from in to hidden
  std::vector<Group> panel_groups_;  // from hidden to out
  Buffer hidden_;
};

}  // namespace

std::unique_ptr<Experts> make_grouped(Context& context, const ExpertWeights& weights,
                                      DType activations) {
  return std::make_unique<Grouped>(context, weights, activations);
}

}  // namespace switchyard::gemm
