#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gemm/blocking.h"
#include "gemm/panel.h"
#include "gemm/prepack.h"
#include "gemm/schedule.h"
#include "switchyard/context.h"

namespace switchyard::gemm {

/// Rows of a matrix, by number or through an index: input row r is x[row_index ? row_index[r] : r].
struct GatherSource {
  ConstMatrixView x;
  const std::int32_t* row_index = nullptr;
};

/// A panel that holds all rows, between two products; groups begin at multiples of 16.
struct Panel {
  PanelShape shape;
  std::byte* data;
  std::int64_t even_rows;  ///< groups of no more rows, one block of either product, share tiles
                           ///< evenly
};

/// out(group) = epilogue(in(group) weights[group.matrix]) for every group, over all threads.
class GroupedProduct {
 public:
  GroupedProduct(Context& context, const Kernel& kernel, PackedWeights weights);

  const PackedWeights& weights() const noexcept { return weights_; }
  const Kernel& kernel() const noexcept { return *kernel_; }
  const Blocking& blocking() const noexcept { return blocking_; }

  /// From gathered rows through an activation into a panel.
  void run(Context& context, std::span<const Group> groups, const GatherSource& in, Activation act,
           const Panel& out);
  /// From a panel to rows of a matrix.
  void run(Context& context, std::span<const Group> groups, const Panel& in, const MatrixView& out);
  /// From gathered rows to rows of a matrix.
  void run(Context& context, std::span<const Group> groups, const GatherSource& in,
           const MatrixView& out);

  /// The last form for rows [row, row + rows) of one matrix, on the calling thread alone: the same
  /// bits. `scratch` is rows_scratch_bytes(rows) long, 64-byte aligned.
  void run_rows(const GatherSource& in, const MatrixView& out, std::int64_t row, std::int64_t rows,
                std::byte* scratch) const noexcept;
  std::int64_t rows_scratch_bytes(std::int64_t rows) const noexcept;

 private:
  struct Call;
  void run(Context& context, std::span<const Group> groups, const Call& call);
  std::int64_t tile_rows(const Call& call, const Group& group) const noexcept;
  void begin(const Call& call, const Group& group, const Task& task) const noexcept;
  /// The depth that tasks of `rows` take at a time, all stripes before the next part.
  std::int64_t part_of(std::int64_t rows) const noexcept;
  bool has_partial_sums(std::int64_t rows) const noexcept;
  std::int64_t stripes_at_once(const Task& task) const noexcept;
  std::int64_t panel_bytes(std::int64_t rows) const noexcept;
  void run_task(const Call& call, const Group& group, const Task& task, const std::byte* next,
                std::byte* panel_scratch, float* acc_scratch) const noexcept;
  void finish_stripes(const Call& call, const Group& group, const Task& task, std::int64_t s,
                      std::int64_t stripes, const float* acc) const noexcept;

  const Kernel* kernel_;
  PackedWeights weights_;
  Blocking blocking_;
  std::vector<Task> tasks_;  // kept between calls for its memory
};

}  // namespace switchyard::gemm
