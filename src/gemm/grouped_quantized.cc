#include <fmt/format.h>

#include "base/check.h"
#include "base/context.h"
#include "gemm/gpu_experts.h"
#include "gemm/implementations.h"
#include "gemm/panel.h"
#include "gemm/quant_product.h"

// As grouped.cc, with rows quantised before each product: tokens of the fused layout once, however
// many experts they go to, and the rows between up and down.

namespace switchyard {
namespace gemm {
namespace {

class GroupedQuantized final : public Experts {
 public:
  /// Memory for `num_experts` experts like those of `like`.
  GroupedQuantized(Context& context, std::int64_t num_experts, const QuantizedExperts& like,
                   DType activations)
      : num_experts_(num_experts),
        activations_(activations),
        activation_(like.activation),
        gated_(like.is_gated()),
        up_(context, QuantWeights(like.up, num_experts, gated_)),
        down_(context, QuantWeights(like.down, num_experts, false)) {}

  void place(Context& context, std::int64_t first, const QuantizedExperts& weights) {
    up_.weights().place(context, first, gated_ ? &weights.gate : nullptr, weights.up);
    down_.weights().place(context, first, nullptr, weights.down);
  }

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    require_forward(plan, in, out, num_experts_, down_.weights().columns(), activations_);
    groups_.clear();
    hidden_groups_.clear();
    std::int64_t rows = 0;
    for (int e = 0; e < plan.num_experts; ++e) {
      const std::int64_t n = plan.expert_rows[static_cast<std::size_t>(e)];
      const std::int64_t begin = plan.expert_begin[static_cast<std::size_t>(e)];
      if (n == 0) continue;
      groups_.push_back({e, n, begin, rows});
      hidden_groups_.push_back({e, n, rows, begin});
      rows += n;
    }
    if (rows == 0) return;
    Arena::Scope scope(arena_of(context));
    const bool whole = up_.schedule(context, groups_);
    const QuantRows hidden = whole ? run_whole_rows(context, plan, in, scope, rows)
                                   : run_parts(context, plan, in, scope, rows);
    down_.schedule(context, hidden_groups_);
    down_.run(context, hidden_groups_, {.quantized = &hidden},
              {EpilogueKind::store, activation_, out});
  }

  std::string kernel() const override {
    return fmt::format("{} {}", isa(), switchyard::name_of(up_.weights().format()));
  }
  std::string isa() const override {
    return std::string(switchyard::name_of(up_.kernel_for(1 << 20).isa));
  }
  std::int64_t weight_bytes() const override {
    return up_.weights().bytes() + down_.weights().bytes();
  }

 private:
  EpilogueKind up_kind() const noexcept {
    return gated_ ? EpilogueKind::gated : EpilogueKind::plain;
  }
  std::int64_t hidden_columns() const noexcept {
    return round_up(up_.weights().columns(), kStripeColumns);
  }

  // A task makes whole rows of the activations between the products, and quantises them before it
  // takes the next.
  QuantRows run_whole_rows(Context& context, const DispatchPlan& plan, ConstMatrixView in,
                           Arena::Scope& scope, std::int64_t rows) {
    const QuantRows hidden = down_.take_rows(scope, rows);
    Arena::Scope scratch(arena_of(context));
    QuantRows tokens;
    QuantProduct::Source source{.x = in};
    if (plan.layout == Layout::fused) {  // once, however many experts a token goes to
      tokens = up_.quantize_rows(context, scratch, in, in.rows);
      source = {.quantized = &tokens, .row_index = plan.token_of_row.data()};
    }
    // A line between rows a power of two apart.
    const std::int64_t stride =
        hidden_columns() + 64 / static_cast<std::int64_t>(size_of(activations_));
    const MatrixView rounded{nullptr, activations_, 0, hidden_columns(), stride};
    up_.run(context, groups_, source, {up_kind(), activation_, rounded, &down_, hidden});
    return hidden;
  }

  QuantRows run_parts(Context& context, const DispatchPlan& plan, ConstMatrixView in,
                      Arena::Scope& scope, std::int64_t rows) {
    const std::int64_t cols = hidden_columns();
    const auto size = static_cast<std::int64_t>(size_of(activations_));
    MatrixView hidden{scope.take<std::byte>(rows * cols * size).data(), activations_, rows, cols,
                      cols};
    {
      Arena::Scope scratch(arena_of(context));
      // Padding rows of `in` may hold anything; what they are quantised to is never read.
      const QuantRows tokens = up_.quantize_rows(context, scratch, in, in.rows);
      const bool gather = plan.layout == Layout::fused;
      up_.run(context, groups_,
              {.quantized = &tokens, .row_index = gather ? plan.token_of_row.data() : nullptr},
              {up_kind(), activation_, hidden});
    }
    hidden.cols = down_.weights().inputs();
    return down_.quantize_rows(context, scope, hidden, rows);
  }

  std::int64_t num_experts_;
  DType activations_;
  Activation activation_;
  bool gated_;
  QuantProduct up_, down_;
  std::vector<Group> groups_;         // from in to hidden
  std::vector<Group> hidden_groups_;  // from hidden to out
};

}  // namespace
}  // namespace gemm

namespace {

void validate(std::string_view name, const QuantizedMatrices& w, const QuantizedMatrices& up,
              std::int64_t rows, std::int64_t cols) {
  require(w.count == up.count && w.rows == rows && w.cols == cols,
          "{} weights are [{}, {}, {}]: expected [{}, {}, {}]", name, w.count, w.rows, w.cols,
          up.count, rows, cols);
  require(w.format == up.format, "{} weights are {}: expected {} as up", name, name_of(w.format),
          name_of(up.format));
  const bool int4 = w.format == QuantFormat::int4;
  require(int4 ? w.group == 32 || w.group == 64 || w.group == 128 : w.group == w.cols,
          "{} weights have groups of {}: expected {}", name, w.group,
          int4 ? "32, 64 or 128" : "a whole row");
  require(int4 || w.cols <= 65536, "{} weights have {} columns: expected at most 65536 in int8",
          name, w.cols);
  const std::int64_t per_row = int4 ? (cols + 1) / 2 : cols;
  const std::int64_t scales = w.count * w.rows * w.groups();
  require(std::ssize(w.values) == w.count * w.rows * per_row,
          "{} weights have {} bytes of values: expected {}", name, w.values.size(),
          w.count * w.rows * per_row);
  require(std::ssize(w.scales) == scales, "{} weights have {} scales: expected {}", name,
          w.scales.size(), scales);
  require(w.zeros.empty() || (int4 && std::ssize(w.zeros) == scales),
          "{} weights have {} zero points: expected {}", name, w.zeros.size(),
          int4 ? fmt::format("none or {}", scales) : "none in int8");
  require(w.zeros.empty() == up.zeros.empty(),
          "{} weights {} zero points: expected the same of all", name,
          w.zeros.empty() ? "have no" : "have");
}

}  // namespace

void gemm::require_valid(const QuantizedExperts& weights) {
  const QuantizedMatrices& up = weights.up;
  require(up.count > 0 && up.rows > 0 && up.cols > 0,
          "up weights are [{}, {}, {}]: expected positive sizes", up.count, up.rows, up.cols);
  validate("up", up, up, up.rows, up.cols);
  validate("down", weights.down, up, up.cols, up.rows);
  if (!weights.is_gated()) return;
  validate("gate", weights.gate, up, up.rows, up.cols);
  require(weights.gate.group == up.group, "gate weights have groups of {}: expected {} as up",
          weights.gate.group, up.group);
}

namespace {

/// What the memory of all experts was laid out for, in one line.
std::string shape_of(const QuantizedExperts& w) {
  return fmt::format("{} [{}, {}, {}] in groups of {} and {}{}{}", name_of(w.up.format), w.up.count,
                     w.up.rows, w.up.cols, w.up.group, w.down.group,
                     w.up.zeros.empty() ? "" : ", zero points", w.is_gated() ? ", gated" : "");
}

std::unique_ptr<Experts> finish(Context&, std::unique_ptr<gemm::GroupedQuantized> experts) {
  return experts;
}
std::unique_ptr<Experts> finish(Context& context, std::unique_ptr<gemm::GpuInt4Builder> builder) {
  return std::move(*builder).finish(context);
}

/// `Kind` has the constructor and the place() of GroupedQuantized.
template <class Kind>
std::unique_ptr<Experts> make_whole(Context& context, const QuantizedExperts& weights,
                                    DType activations) {
  gemm::require_valid(weights);
  auto experts = std::make_unique<Kind>(context, weights.up.count, weights, activations);
  experts->place(context, 0, weights);
  return finish(context, std::move(experts));
}

template <class Kind>
std::unique_ptr<Experts> make_one_by_one(
    Context& context, std::int64_t num_experts,
    const std::function<QuantizedExperts(std::int64_t expert)>& source, DType activations) {
  std::unique_ptr<Kind> experts;
  std::string shape;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const QuantizedExperts expert = source(e);
    gemm::require_valid(expert);
    require(expert.up.count == 1, "source gives {} experts for number {}: expected 1",
            expert.up.count, e);
    if (e == 0) {
      shape = shape_of(expert);
      experts = std::make_unique<Kind>(context, num_experts, expert, activations);
    }
    require(shape_of(expert) == shape, "expert {} is {}: expected {} as expert 0", e,
            shape_of(expert), shape);
    experts->place(context, e, expert);
  }
  return finish(context, std::move(experts));
}

}  // namespace

std::unique_ptr<Experts> make_experts(Context& context, const QuantizedExperts& weights,
                                      DType activations) {
  return context.device() == Device::cuda
             ? make_whole<gemm::GpuInt4Builder>(context, weights, activations)
             : make_whole<gemm::GroupedQuantized>(context, weights, activations);
}

std::unique_ptr<Experts> make_experts(
    Context& context, std::int64_t num_experts,
    const std::function<QuantizedExperts(std::int64_t expert)>& source, DType activations) {
  require(num_experts > 0, "number of experts is {}: expected at least 1", num_experts);
  return context.device() == Device::cuda
             ? make_one_by_one<gemm::GpuInt4Builder>(context, num_experts, source, activations)
             : make_one_by_one<gemm::GroupedQuantized>(context, num_experts, source, activations);
}

}  // namespace switchyard
