#pragma once

#include <cstdint>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>

#include "base/buffer.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// The FFN of expert weights through oneDNN: one matmul primitive per projection, the activation as
/// the first one's post-op, weights reordered once into the layout oneDNN asks for.
///
/// Computes in bf16 where activations and weights are bf16 and oneDNN has a bf16 kernel for this
/// machine, else in f32 (rounding either to bf16 would lose bits). Matmuls are made for a fixed
/// number of rows and kept: with the row count left open (DNNL_RUNTIME_DIM_VAL) oneDNN 2.6 falls
/// back from its packed kernels to gemm:jit, a third slower at 64 rows of olmoe.
class FfnOneDnn {
 public:
  /// batched: one call runs all experts on [E, rows, H]; else one call runs one expert.
  FfnOneDnn(Context& context, const ExpertWeights& weights, DType activations, bool batched);

  DType dtype() const noexcept { return dtype_; }

  /// The row count that `rows` is run as. Counts above 16 are rounded up, by 1/16 or a little more,
  /// so that a new count of every batch does not build (1 to 5 ms) primitives forever.
  std::int64_t padded_rows(std::int64_t rows) const noexcept;

  /// Elements of scratch that a run needs.
  std::int64_t scratch_elements(std::int64_t padded_rows) const noexcept;

  /// out = FFN of `expert` (0 when batched) over `padded_rows` dense rows (of each expert when
  /// batched); all buffers hold elements of dtype(), rows being padded_rows(n).
  void run(Context& context, std::int64_t expert, std::int64_t padded_rows, const std::byte* in,
           std::byte* out, std::byte* scratch);

  std::string kernel() const;
  std::string isa() const;
  std::int64_t weight_bytes() const noexcept;

 private:
  struct Projection {
    dnnl::memory::desc layout;  // of one expert's weights, of all when batched
    std::int64_t bytes = 0;     // from one expert to the next
    Buffer weights;
  };
  struct Calls;

  dnnl::matmul::primitive_desc describe(const dnnl::memory::desc& weights, std::int64_t rows,
                                        std::int64_t n, std::int64_t k, bool activated) const;
  Projection prepack(const ConstMatricesView& weights, bool activated);
  Calls& calls_for(std::int64_t rows);
  std::byte* weights_of(Projection& projection, std::int64_t expert) const noexcept;

  dnnl::engine engine_;
  dnnl::stream stream_;
  std::int64_t experts_, hidden_, ffn_;
  Activation activation_;
  bool gated_, batched_;
  int threads_ = 0;  // that the cached calls were made for
  DType dtype_ = DType::f32;
  std::string implementation_;
  Projection gate_, up_, down_;
  struct CallsDeleter {
    void operator()(Calls*) const noexcept;
  };
  std::unordered_map<std::int64_t, std::unique_ptr<Calls, CallsDeleter>> calls_of_rows_;
};

}  // namespace switchyard::gemm
