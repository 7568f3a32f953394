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
    const DType dtype = ffn_.dtype();
    const std::int64_t num_rows = plan.num_rows();
    const std::int64_t most =
        ffn_.padded_rows(*std::max_element(plan.expert_rows.begin(), plan.expert_rows.end()));
    ThreadPool& pool = pool_of(context);
    Arena::Scope scope(arena_of(context));
    const auto size = static_cast<std::int64_t>(size_of(dtype));
    const auto take = [&](std::int64_t rows) {
      return MatrixView{scope.take<std::byte>(rows * hidden_ * size).data(), dtype, rows, hidden_,
                        hidden_};
    };
    std::byte* scratch = scope.take<std::byte>(ffn_.scratch_elements(most) * size).data();

    // Copies are long enough for an expert's padded row count to run past its last row.
    const auto token_of = [&](std::int64_t r) {
      return std::int64_t{plan.token_of_row[static_cast<std::size_t>(r)]};
    };
    ConstMatrixView rows_in = in;
    if (plan.layout == Layout::fused || in.dtype != dtype || !is_dense(in)) {
      const MatrixView copy = take(num_rows + most);
      const bool gathers = plan.layout == Layout::fused;
      copy_rows(pool, num_rows, in, copy, [&](std::int64_t r) {
        return token_of(r) < 0 ? -1 : gathers ? token_of(r) : r;
      });
      rows_in = copy;
    }
    const bool out_is_copied = out.dtype != dtype || !is_dense(out);
    const MatrixView rows_out = out_is_copied ? take(num_rows + most) : out;
    const MatrixView tail_in = take(most), tail_out = take(most);

    for (std::int64_t e = 0; e < experts_; ++e) {
      const std::int64_t begin = plan.expert_begin[static_cast<std::size_t>(e)];
      const std::int64_t rows = plan.expert_rows[static_cast<std::size_t>(e)];
      if (rows == 0) continue;
      const std::int64_t padded = ffn_.padded_rows(rows);
      const std::byte* from = rows_in.row(begin);
      if (begin + padded > rows_in.rows) {
        copy_slice(pool, rows_in, begin, tail_in, 0, rows);
        from = tail_in.data;
      }
      // Where rows are compact the overrun falls on experts still to come.
      const bool overrun_is_harmless = rows == padded || out_is_copied || is_compact(plan);
      if (overrun_is_harmless && begin + padded <= rows_out.rows) {
        ffn_.run(context, e, padded, from, rows_out.row(begin), scratch);
      } else {
        ffn_.run(context, e, padded, from, tail_out.data, scratch);
        copy_slice(pool, tail_out, 0, rows_out, begin, rows);
      }
    }
    if (out_is_copied) {
      copy_rows(pool, num_rows, rows_out, out,
                [&](std::int64_t r) { return token_of(r) < 0 ? -1 : r; });
    }
  }

  std::string kernel() const override { return ffn_.kernel(); }
  std::string isa() const override { return ffn_.isa(); }
  std::int64_t weight_bytes() const override { return ffn_.weight_bytes(); }

 private:
  static bool is_compact(const DispatchPlan& plan) noexcept {
    return plan.layout == Layout::compact || plan.layout == Layout::fused;
  }

  static void copy_slice(ThreadPool& pool, ConstMatrixView from, std::int64_t from_begin,
                         MatrixView to, std::int64_t to_begin, std::int64_t rows) {
    MatrixView slice = to;
    slice.data = to.row(to_begin);
    copy_rows(pool, rows, from, slice, [&](std::int64_t i) { return from_begin + i; });
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
