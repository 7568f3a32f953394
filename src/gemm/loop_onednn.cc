#include <algorithm>

#include "base/context.h"
#include "gemm/ffn_onednn.h"
#include "gemm/implementations.h"
#include "gemm/rows.h"

namespace switchyard::gemm {
namespace {

bool is_dense(ConstMatrixView m) { return m.row_stride == m.cols || m.rows <= 1; }

/// One oneDNN call per expert and projection. An expert's rows are read and written in place where
/// they lie densely in the dtype computed in; else they pass through scratch.
class LoopExperts final : public Experts {
 public:
  LoopExperts(Context& context, const ExpertWeights& weights, DType activations)
      : experts_(weights.up.count),
        hidden_(weights.up.cols),
        activations_(activations),
        ffn_(context, weights, activations, false) {}

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    require_forward(plan, in, out, experts_, hidden_, activations_);
    Arena::Scope scope(arena_of(context));
    const std::int64_t most =
        ffn_.padded_rows(*std::max_element(plan.expert_rows.begin(), plan.expert_rows.end()));
    Rows rows{in, out, take(scope, most), take(scope, most), {}, false};
    rows.scratch = scope.take<std::byte>(ffn_.scratch_elements(most) * element_bytes()).data();

    // Copies are long enough for an expert's padded row count to run past the last row.
    const std::int64_t num_rows = plan.num_rows();
    if (plan.layout == Layout::fused || in.dtype != ffn_.dtype() || !is_dense(in)) {
      const MatrixView copy = take(scope, num_rows + most);
      copy_in(context, plan, in, copy);
      rows.in = copy;
    }
    if (out.dtype != ffn_.dtype() || !is_dense(out)) {
      rows.out = take(scope, num_rows + most);
      rows.out_is_copy = true;
    }
    for (std::int64_t e = 0; e < experts_; ++e) {
      if (plan.expert_rows[static_cast<std::size_t>(e)] > 0) run_expert(context, plan, e, rows);
    }
    if (rows.out_is_copy) {
      copy_rows(pool_of(context), num_rows, rows.out, out, [&](std::int64_t r) {
        return plan.token_of_row[static_cast<std::size_t>(r)] < 0 ? -1 : r;
      });
    }
  }

  std::string kernel() const override { return ffn_.kernel(); }
  std::string isa() const override { return ffn_.isa(); }
  std::int64_t weight_bytes() const override { return ffn_.weight_bytes(); }

 private:
  struct Rows {
    ConstMatrixView in;
    MatrixView out;
    MatrixView tail_in, tail_out;  // for an expert whose padded rows do not fit in `in` or `out`
    std::byte* scratch;
    bool out_is_copy;
  };

  std::int64_t element_bytes() const noexcept {
    return static_cast<std::int64_t>(size_of(ffn_.dtype()));
  }

  MatrixView take(Arena::Scope& scope, std::int64_t rows) const {
    return {scope.take<std::byte>(rows * hidden_ * element_bytes()).data(), ffn_.dtype(), rows,
            hidden_, hidden_};
  }

  void run_expert(Context& context, const DispatchPlan& plan, std::int64_t e, const Rows& rows) {
    const std::int64_t begin = plan.expert_begin[static_cast<std::size_t>(e)];
    const std::int64_t count = plan.expert_rows[static_cast<std::size_t>(e)];
    const std::int64_t padded = ffn_.padded_rows(count);
    const std::byte* from = rows.in.row(begin);
    if (begin + padded > rows.in.rows) {
      copy_slice(context, rows.in, begin, rows.tail_in, 0, count);
      from = rows.tail_in.data;
    }
    // Where rows are compact the overrun falls on experts still to come.
    const bool is_compact = plan.layout == Layout::compact || plan.layout == Layout::fused;
    const bool may_overrun = count == padded || rows.out_is_copy || is_compact;
    if (may_overrun && begin + padded <= rows.out.rows) {
      ffn_.run(context, e, padded, from, rows.out.row(begin), rows.scratch);
    } else {
      ffn_.run(context, e, padded, from, rows.tail_out.data, rows.scratch);
      copy_slice(context, rows.tail_out, 0, rows.out, begin, count);
    }
  }

  static void copy_in(Context& context, const DispatchPlan& plan, ConstMatrixView in,
                      MatrixView copy) {
    const bool gathers = plan.layout == Layout::fused;
    copy_rows(pool_of(context), plan.num_rows(), in, copy, [&](std::int64_t r) {
      const std::int64_t token = plan.token_of_row[static_cast<std::size_t>(r)];
      return token < 0 || gathers ? token : r;
    });
  }

  static void copy_slice(Context& context, ConstMatrixView from, std::int64_t from_begin,
                         MatrixView to, std::int64_t to_begin, std::int64_t rows) {
    MatrixView slice = to;
    slice.data = to.row(to_begin);
    copy_rows(pool_of(context), rows, from, slice, [&](std::int64_t i) { return from_begin + i; });
  }

  std::int64_t experts_, hidden_;
  DType activations_;
  FfnOneDnn ffn_;
};

}  // namespace

std::unique_ptr<Experts> make_loop(Context& context, const ExpertWeights& weights,
                                   DType activations) {
  return std::make_unique<LoopExperts>(context, weights, activations);
}

}  // namespace switchyard::gemm
