#include <algorithm>
#include <optional>

#include "base/buffer.h"
#include "base/check.h"
#include "base/context.h"
#include "base/names.h"
#include "gemm/implementations.h"
#include "gemm/rows.h"
#include "switchyard/quant.h"

// Integer weights for every implementation: ours multiply the integers, those that call a library
// get elements that stand for them.

namespace switchyard {
namespace {

using Source = std::function<QuantizedExperts(std::int64_t expert)>;

/// E matrices of elements, filled one at a time.
class Dequantized {
 public:
  Dequantized(DType dtype, std::int64_t count, std::int64_t rows, std::int64_t cols)
      : view_{nullptr, dtype, count, rows, cols, cols, rows * cols} {
    const std::int64_t bytes = count * rows * cols * static_cast<std::int64_t>(size_of(dtype));
    buffer_.reserve(std::max<std::int64_t>(1, bytes));
    view_.data = buffer_.data();
  }

  void set(Context& context, std::int64_t i, const QuantizedMatrices& from) {
    if (from.count == 0) return;
    Buffer exact;
    const MatrixView values =
        matrix(exact.elements<float>(from.rows * from.cols), from.rows, from.cols);
    dequantize(context, from, values);
    const ConstMatrixView to = view_[i];
    std::byte* data = buffer_.data() + (to.data - buffer_.data());
    pool_of(context).for_ranges(from.rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t r = begin; r < end; ++r) {
        gemm::copy_row(values.row(r), DType::f32,
                       data + r * from.cols * static_cast<std::int64_t>(size_of(view_.dtype)),
                       view_.dtype, from.cols);
      }
    });
  }

  const ConstMatricesView& view() const { return view_; }

 private:
  Buffer buffer_;
  ConstMatricesView view_;
};

std::unique_ptr<Experts> make_dequantized(Context& context, std::string_view implementation,
                                          std::int64_t num_experts, const Source& source,
                                          DType activations) {
  // Libraries on a device multiply elements of one type only.
  const bool is_narrow = activations == DType::bf16 || context.device() == Device::cuda;
  const DType dtype = is_narrow ? activations : DType::f32;
  std::optional<Dequantized> gate, up, down;
  QuantizedExperts first;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const QuantizedExperts expert = source(e);
    gemm::require_valid(expert);
    if (e == 0) {
      const std::int64_t ffn = expert.up.rows, hidden = expert.up.cols;
      up.emplace(dtype, num_experts, ffn, hidden);
      down.emplace(dtype, num_experts, hidden, ffn);
      if (expert.is_gated()) gate.emplace(dtype, num_experts, ffn, hidden);
    }
    const ConstMatricesView& like = up->view();
    require(expert.up.count == 1 && expert.up.rows == like.rows && expert.up.cols == like.cols &&
                expert.is_gated() == gate.has_value(),
            "expert {} is [{}, {}, {}]{}: expected [1, {}, {}]{} as expert 0", e, expert.up.count,
            expert.up.rows, expert.up.cols, expert.is_gated() ? ", gated" : "", like.rows,
            like.cols, gate ? ", gated" : "");
    if (gate) gate->set(context, e, expert.gate);
    up->set(context, e, expert.up);
    down->set(context, e, expert.down);
    if (e == 0) first.activation = expert.activation;
  }
  ExpertWeights weights{{}, up->view(), down->view(), first.activation};
  if (gate) weights.gate = gate->view();
  return make_experts(context, implementation, weights, activations);
}

}  // namespace

std::unique_ptr<Experts> make_experts(Context& context, std::string_view implementation,
                                      std::int64_t num_experts, const Source& source,
                                      DType activations) {
  require(num_experts > 0, "number of experts is {}: expected at least 1", num_experts);
  const bool on_device = context.device() == Device::cuda;
  if (implementation == "loop" || implementation == "padded" ||
      (on_device && implementation == "library")) {
    return make_dequantized(context, implementation, num_experts, source, activations);
  }
  const auto grouped = [&] { return make_experts(context, num_experts, source, activations); };
  if (implementation == "grouped") return grouped();
  if (!on_device && implementation == "capacity")
    return gemm::pad_to_capacity(grouped(), activations);
  if (!on_device && implementation == "block") return gemm::pad_to_blocks(grouped(), activations);
  const auto names = expert_implementations(context.device());
  if (std::find(names.begin(), names.end(), implementation) == names.end()) {
    throw Error(ErrorCode::invalid_argument,
                unknown_name("experts implementation", implementation, names));
  }
  throw Error(
      ErrorCode::unavailable,
      fmt::format("experts implementation {} multiplies f32, bf16 and f16 weights: expected "
                  "loop, padded, capacity, block or grouped for integer ones",
                  implementation));
}

}  // namespace switchyard
