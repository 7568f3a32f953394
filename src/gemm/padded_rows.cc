#include <algorithm>
#include <cstring>

#include "base/context.h"
#include "gemm/implementations.h"
#include "gemm/panel.h"
#include "gemm/rows.h"

// What computing on padded rows costs with the kernels of `grouped`, so that only the padding
// differs: rows are copied into the padded form, all of them are multiplied, the kept ones are
// copied back.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kBlockRows = 64;

enum class Padding { capacity, block };

class PaddedRows final : public Experts {
 public:
  PaddedRows(std::unique_ptr<Experts> experts, DType activations, Padding padding)
      : activations_(activations), padding_(padding), experts_(std::move(experts)) {}

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    // The inner experts check the columns and the number of experts again, against their own.
    require_forward(plan, in, out, plan.num_experts, out.cols, activations_);
    pad(plan);
    if (padded_.num_rows() == 0) return;
    Arena::Scope scope(arena_of(context));
    const MatrixView padded_in = take(scope, in.cols), padded_out = take(scope, in.cols);
    copy_in(context, plan, in, padded_in);
    experts_->forward(context, padded_, padded_in, padded_out);
    for (std::size_t e = 0; e < plan.expert_rows.size(); ++e) {
      MatrixView own = out;
      own.data = out.row(plan.expert_begin[e]);
      const std::int64_t begin = padded_.expert_begin[e];
      copy_rows(pool_of(context), plan.expert_rows[e], padded_out, own,
                [begin](std::int64_t i) { return begin + i; });
    }
  }

  std::string kernel() const override { return experts_->kernel(); }
  std::string isa() const override { return experts_->isa(); }
  std::int64_t weight_bytes() const override { return experts_->weight_bytes(); }

 private:
  /// The plan of the padded rows, every one of which counts as kept.
  void pad(const DispatchPlan& plan) {
    const std::int64_t fullest =
        *std::max_element(plan.expert_rows.begin(), plan.expert_rows.end());
    const std::int64_t capacity = std::max(plan.capacity, fullest);
    padded_.num_experts = plan.num_experts;
    padded_.expert_rows.clear();
    padded_.expert_begin.assign(1, 0);
    for (const std::int64_t rows : plan.expert_rows) {
      const std::int64_t all =
          padding_ == Padding::capacity ? capacity : round_up(rows, kBlockRows);
      padded_.expert_rows.push_back(all);
      padded_.expert_begin.push_back(padded_.expert_begin.back() + all);
    }
    padded_.num_tokens = padded_.expert_begin.back();
    // Whose rows these are matters to nobody: the layout is compact.
    padded_.token_of_row.resize(static_cast<std::size_t>(padded_.num_tokens));
  }

  MatrixView take(Arena::Scope& scope, std::int64_t cols) const {
    const std::int64_t rows = padded_.num_rows();
    const auto bytes = rows * cols * static_cast<std::int64_t>(size_of(activations_));
    return {scope.take<std::byte>(bytes).data(), activations_, rows, cols, cols};
  }

  void copy_in(Context& context, const DispatchPlan& plan, const ConstMatrixView& in,
               const MatrixView& to) const {
    const bool gathers = plan.layout == Layout::fused;
    const auto row_bytes = static_cast<std::size_t>(in.cols) * size_of(activations_);
    for (std::size_t e = 0; e < plan.expert_rows.size(); ++e) {
      const std::int64_t from = plan.expert_begin[e], kept = plan.expert_rows[e];
      const std::int64_t begin = padded_.expert_begin[e];
      pool_of(context).for_ranges(
          padded_.expert_rows[e], 16, [&](std::int64_t first, std::int64_t last, int) {
            for (std::int64_t i = first; i < last; ++i) {
              if (i >= kept) {
                std::memset(to.row(begin + i), 0, row_bytes);
                continue;
              }
              const std::int64_t row = from + i;
              const std::int64_t source =
                  gathers ? plan.token_of_row[static_cast<std::size_t>(row)] : row;
              std::memcpy(to.row(begin + i), in.row(source), row_bytes);
            }
          });
    }
  }

  DType activations_;
  Padding padding_;
  std::unique_ptr<Experts> experts_;
  DispatchPlan padded_;
};

}  // namespace

std::unique_ptr<Experts> make_capacity(Context& context, const ExpertWeights& weights,
                                       DType activations) {
  return pad_to_capacity(make_grouped(context, weights, activations), activations);
}

std::unique_ptr<Experts> make_block(Context& context, const ExpertWeights& weights,
                                    DType activations) {
  return pad_to_blocks(make_grouped(context, weights, activations), activations);
}

std::unique_ptr<Experts> pad_to_capacity(std::unique_ptr<Experts> experts, DType activations) {
  return std::make_unique<PaddedRows>(std::move(experts), activations, Padding::capacity);
}

std::unique_ptr<Experts> pad_to_blocks(std::unique_ptr<Experts> experts, DType activations) {
  return std::make_unique<PaddedRows>(std::move(experts), activations, Padding::block);
}

}  // namespace switchyard::gemm
