#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/arena.h"
#include "gemm/blocking.h"
#include "gemm/epilogue_kernel.h"
#include "gemm/quant_variants.h"
#include "gemm/quant_weights.h"
#include "gemm/schedule.h"
#include "switchyard/context.h"

namespace switchyard::gemm {

/// Rows of activations as signed bytes with a scale each, in scratch memory.
struct QuantRows {
  std::int8_t* data;  ///< [rows + 16, stride]: a tile may begin at any row
  std::int64_t stride;
  float* scales;       ///< [rows]
  std::int32_t* sums;  ///< [rows, groups], negated
  std::int64_t groups;
};

/// out[group.out_row + i] = epilogue(in[...] weights[group.matrix]) for every row of every group,
/// over all threads. Each thread can quantise the rows of its task while they are in its L2:
/// before, when no other task needs them, and the task's whole output for the product that follows.
class QuantProduct {
 public:
  QuantProduct(Context& context, QuantWeights weights);

  const QuantWeights& weights() const noexcept { return weights_; }
  QuantWeights& weights() noexcept { return weights_; }
  /// The kernel that a group of `rows` rows meets.
  const QuantKernel& kernel_for(std::int64_t rows) const noexcept;

  /// Memory for `rows` rows of this product's depth and groups.
  QuantRows take_rows(Arena::Scope& scope, std::int64_t rows) const;
  /// Quantises the first `rows` rows of x.
  QuantRows quantize_rows(Context& context, Arena::Scope& scope, const ConstMatrixView& x,
                          std::int64_t rows) const;

  /// Rows that meet the weights: quantised ones or, when every task has all stripes, others.
  /// Row i of a group is row_index ? row_index[group.in_row + i] : group.in_row + i.
  struct Source {
    const QuantRows* quantized = nullptr;
    ConstMatrixView x = {};
    const std::int32_t* row_index = nullptr;
  };
  /// `out` of the kinds gated and plain has its columns padded to 32. With `next`, when every task
  /// has all stripes, `quantized` gets the rows as `next` multiplies them, and `out` only says how
  /// they are rounded before: it has no data.
  struct Sink {
    EpilogueKind kind;
    Activation act;
    MatrixView out;
    const QuantProduct* next = nullptr;
    QuantRows quantized = {};
  };
  /// Cuts the work of the groups that run() then does. Returns whether every task has all stripes.
  bool schedule(Context& context, std::span<const Group> groups);
  void run(Context& context, std::span<const Group> groups, const Source& in, const Sink& out);

 private:
  struct Call;
  struct Rows;
  struct Ahead;
  void quantize(const ConstMatrixView& x, std::int64_t begin, std::int64_t end,
                const QuantRows& out, std::int64_t out_begin, bool stream) const noexcept;
  std::int64_t part_depth(const Task& task) const noexcept;
  Rows gather(const Call& call, const Group& group, const Task& task,
              std::byte* scratch) const noexcept;
  PrefetchPairs prefetch_of(const Task& task, std::int64_t matrix, std::int64_t s,
                            const Ahead& ahead) const noexcept;
  void run_task(const Call& call, const Group& group, const Task& task, const Ahead& ahead,
                std::byte* scratch) const noexcept;
  static bool streams_rows(const Call& call, const QuantKernel& kernel, const Task& task) noexcept;
  Finish finish_of(const Call& call, const MatrixView& out, const Task& task, bool stream,
                   std::int64_t s, std::byte* kept) const noexcept;
  void finish_stripes(const Call& call, const MatrixView& out, std::int64_t rows, std::int64_t s,
                      std::int64_t stripes, const float* acc) const noexcept;
  // A line more than the row, so that 16 rows a power of two apart do not meet in one L1 set.
  std::int64_t row_stride() const noexcept { return weights_.depth() + 64; }

  QuantWeights weights_;
  std::vector<const QuantKernel*> kernels_;  // of this ISA, most rows first
  RowFn quantize_row_[3];                    // by DType
  Isa isa_;
  Blocking blocking_;
  std::vector<Task> tasks_;  // kept between calls for its memory
};

}  // namespace switchyard::gemm
