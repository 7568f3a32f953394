#include "gemm/implementations.h"

#if defined(SWITCHYARD_HAS_ONEDNN)

#include <algorithm>

#include "base/context.h"
#include "gemm/ffn_onednn.h"
#include "gemm/rows.h"

namespace switchyard::gemm {
namespace {

/// One batched oneDNN call per projection over [E, max n, H]: every expert, an empty one too, pays
/// for the fullest. Rows are copied in and out, which is part of what padding costs.
class PaddedExperts final : public Experts {
 public:
  PaddedExperts(Context& context, const ExpertWeights& weights, DType activations)
      : experts_(weights.up.count),
        hidden_(weights.up.cols),
        activations_(activations),
        ffn_(context, weights, activations, true) {}

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    require_forward(plan, in, out, experts_, hidden_, activations_);
    const std::int64_t fullest =
        *std::max_element(plan.expert_rows.begin(), plan.expert_rows.end());
    if (fullest == 0) return;
    const DType dtype = ffn_.dtype();
    const std::int64_t rows = ffn_.padded_rows(fullest), all = experts_ * rows;
    const auto size = static_cast<std::int64_t>(size_of(dtype));
    ThreadPool& pool = pool_of(context);
    Arena::Scope scope(arena_of(context));
    const auto take = [&](std::int64_t cols) {
      return MatrixView{scope.take<std::byte>(all * cols * size).data(), dtype, all, cols, cols};
    };
    const MatrixView padded_in = take(hidden_), padded_out = take(hidden_);
    auto* scratch = scope.take<std::byte>(ffn_.scratch_elements(rows) * size).data();

    const bool gathers = plan.layout == Layout::fused;
    pool.for_ranges(all, 16, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t r = row_of(plan, i / rows, i % rows);
        if (r < 0) {
          std::memset(padded_in.row(i), 0, static_cast<std::size_t>(hidden_ * size));
          continue;
        }
        const std::int64_t source = gathers ? plan.token_of_row[static_cast<std::size_t>(r)] : r;
        copy_row(in.row(source), in.dtype, padded_in.row(i), dtype, hidden_);
      }
    });
    ffn_.run(context, 0, rows, padded_in.data, padded_out.data, scratch);
    pool.for_ranges(all, 16, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t r = row_of(plan, i / rows, i % rows);
        if (r >= 0) copy_row(padded_out.row(i), dtype, out.row(r), out.dtype, hidden_);
      }
    });
  }

  std::string kernel() const override { return ffn_.kernel(); }
  std::string isa() const override { return ffn_.isa(); }
  std::int64_t weight_bytes() const override { return ffn_.weight_bytes(); }

 private:
  /// Packed row of an expert's i-th row, -1 where it has fewer.
  static std::int64_t row_of(const DispatchPlan& plan, std::int64_t expert, std::int64_t i) {
    const auto e = static_cast<std::size_t>(expert);
    return i < plan.expert_rows[e] ? plan.expert_begin[e] + i : -1;
  }

  std::int64_t experts_, hidden_;
  DType activations_;
  FfnOneDnn ffn_;
};

}  // namespace

std::unique_ptr<Experts> make_padded(Context& context, const ExpertWeights& weights,
                                     DType activations) {
  return std::make_unique<PaddedExperts>(context, weights, activations);
}

}  // namespace switchyard::gemm

#else

#include "switchyard/error.h"

namespace switchyard::gemm {

std::unique_ptr<Experts> make_padded(Context&, const ExpertWeights&, DType) {
  throw Error(ErrorCode::unavailable,
              "experts implementation padded needs oneDNN: install libdnnl-dev and build again");
}

}  // namespace switchyard::gemm

#endif
