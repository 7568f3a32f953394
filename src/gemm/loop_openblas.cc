// The loop where oneDNN is absent: OpenBLAS's sgemm, or nothing.

#include "gemm/implementations.h"
#include "switchyard/error.h"

#if defined(SWITCHYARD_HAS_OPENBLAS)

#include <cblas.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/buffer.h"
#include "base/context.h"
#include "gemm/rows.h"

namespace switchyard::gemm {
namespace {

float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::silu: return x / (1.0f + std::exp(-x));
    case Activation::gelu: return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    case Activation::relu: return std::max(x, 0.0f);
  }
  return x;
}

/// One sgemm per expert and projection, the activation as a pass of its own. f32 only.
class OpenBlasExperts final : public Experts {
 public:
  explicit OpenBlasExperts(const ExpertWeights& weights)
      : gated_(weights.is_gated()),
        activation_(weights.activation),
        experts_(weights.up.count),
        hidden_(weights.up.cols),
        ffn_(weights.up.rows) {
    if (gated_) copy(weights.gate, gate_);
    copy(weights.up, up_);
    copy(weights.down, down_);
  }

  void forward(Context& context, const DispatchPlan& plan, ConstMatrixView in,
               MatrixView out) override {
    require_forward(plan, in, out, experts_, hidden_, DType::f32);
    openblas_set_num_threads(context.threads());
    const std::int64_t most = *std::max_element(plan.expert_rows.begin(), plan.expert_rows.end());
    Arena::Scope scope(arena_of(context));
    float* up = scope.take<float>(most * ffn_).data();
    float* gate = scope.take<float>(gated_ ? most * ffn_ : 0).data();
    ConstMatrixView rows_in = in;
    if (plan.layout == Layout::fused) {
      const std::int64_t rows = plan.num_rows();
      const MatrixView gathered = matrix(scope.take<float>(rows * hidden_).data(), rows, hidden_);
      copy_rows(pool_of(context), rows, in, gathered, [&](std::int64_t r) {
        return std::int64_t{plan.token_of_row[static_cast<std::size_t>(r)]};
      });
      rows_in = gathered;
    }
    for (std::int64_t e = 0; e < experts_; ++e) {
      const std::int64_t begin = plan.expert_begin[static_cast<std::size_t>(e)];
      const std::int64_t rows = plan.expert_rows[static_cast<std::size_t>(e)];
      if (rows == 0) continue;
      const float* x = reinterpret_cast<const float*>(rows_in.row(begin));
      project(rows, hidden_, ffn_, x, rows_in.row_stride, up_, e, up, ffn_);
      if (gated_) project(rows, hidden_, ffn_, x, rows_in.row_stride, gate_, e, gate, ffn_);
      activate_all(context, rows * ffn_, gate, up);
      project(rows, ffn_, hidden_, up, ffn_, down_, e, reinterpret_cast<float*>(out.row(begin)),
              out.row_stride);
    }
  }

  std::string kernel() const override {
    return fmt::format("openblas f32 {}", openblas_get_corename());
  }

  std::string isa() const override {
    const std::string_view core = openblas_get_corename();
    if (core == "SkylakeX" || core == "Cooperlake" || core == "SapphireRapids") return "avx512";
    if (core == "Haswell" || core == "Zen") return "avx2";
    return "portable";
  }

  std::int64_t weight_bytes() const override { return gate_.bytes() + up_.bytes() + down_.bytes(); }

 private:
  static void copy(const ConstMatricesView& weights, Buffer& to) {
    auto* data = reinterpret_cast<std::byte*>(
        to.elements<float>(weights.count * weights.rows * weights.cols));
    for (std::int64_t e = 0; e < weights.count; ++e) {
      for (std::int64_t i = 0; i < weights.rows; ++i, data += weights.cols * sizeof(float)) {
        copy_row(weights[e].row(i), weights.dtype, data, DType::f32, weights.cols);
      }
    }
  }

  /// out [rows, n] = x [rows, k] W_e^T
  static void project(std::int64_t rows, std::int64_t k, std::int64_t n, const float* x,
                      std::int64_t x_stride, Buffer& weights, std::int64_t e, float* out,
                      std::int64_t out_stride) {
    const float* w = reinterpret_cast<const float*>(weights.data()) + e * n * k;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(rows),
                static_cast<blasint>(n), static_cast<blasint>(k), 1.0f, x,
                static_cast<blasint>(std::max(x_stride, k)), w, static_cast<blasint>(k), 0.0f, out,
                static_cast<blasint>(std::max(out_stride, n)));
  }

  void activate_all(Context& context, std::int64_t count, const float* gate, float* up) const {
    pool_of(context).for_ranges(count, 4096, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        up[i] = gated_ ? activate(activation_, gate[i]) * up[i] : activate(activation_, up[i]);
      }
    });
  }

  bool gated_;
  Activation activation_;
  std::int64_t experts_, hidden_, ffn_;
  Buffer gate_, up_, down_;
};

}  // namespace

std::unique_ptr<Experts> make_loop(Context&, const ExpertWeights& weights, DType activations) {
  if (activations != DType::f32 || weights.up.dtype != DType::f32) {
    throw Error(ErrorCode::unavailable,
                fmt::format("experts implementation loop runs f32 only through OpenBLAS, not {} "
                            "activations with {} weights: install libdnnl-dev and build again",
                            name_of(activations), name_of(weights.up.dtype)));
  }
  return std::make_unique<OpenBlasExperts>(weights);
}

}  // namespace switchyard::gemm

#else

namespace switchyard::gemm {

std::unique_ptr<Experts> make_loop(Context&, const ExpertWeights&, DType) {
  throw Error(ErrorCode::unavailable,
              "experts implementation loop needs oneDNN or, for f32, OpenBLAS: install libdnnl-dev "
              "or libopenblas-dev and build again");
}

}  // namespace switchyard::gemm

#endif
