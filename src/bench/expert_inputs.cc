#include "bench/expert_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/context.h"
#include "layer/layer_reference.h"
#include "switchyard/error.h"
#include "workload/tensors.h"

namespace switchyard {
namespace {

Matrix random_projection(Context& context, const Cell& cell, std::int64_t out, std::int64_t in,
                         std::uint64_t stream) {
  Matrix matrix(cell.weights.dtype, cell.experts * out, in);
  fill_uniform(context, matrix.view(), cell.seed, stream, 1.0f / std::sqrt(static_cast<float>(in)));
  return matrix;
}

ConstMatricesView per_expert(const Matrix& matrix, const Cell& cell, std::int64_t rows) {
  const MatrixView all = matrix.view();
  return {all.data, all.dtype, cell.experts, rows, all.cols, all.cols, rows * all.cols};
}

/// One projection of one expert, in integers. Streams below 16 are those of whole tensors.
QuantizedMatrices quantized_projection(Context& context, const Cell& cell, std::int64_t expert,
                                       std::int64_t out, std::int64_t in, std::uint64_t which) {
  const Matrix raw(cell.weights.dtype, out, in);
  fill_uniform(context, raw.view(), cell.seed, 16 + 4 * static_cast<std::uint64_t>(expert) + which,
               1.0f / std::sqrt(static_cast<float>(in)));
  const MatrixView view = raw.view();
  return quantize(context, {view.data, view.dtype, 1, out, in, in, 0}, cell.quant);
}

/// What integers stand for, [1, rows, cols] f32.
class Dequantized {
 public:
  Dequantized(Context& context, const QuantizedMatrices& from)
      : values_(DType::f32, from.rows, from.cols) {
    if (from.count > 0) dequantize(context, from, values_.view());
  }
  ConstMatricesView view() const {
    const MatrixView v = values_.view();
    return {v.data, v.dtype, 1, v.rows, v.cols, v.cols, 0};
  }

 private:
  Matrix values_;
};

std::vector<double> row_of(ConstMatrixView x, std::int64_t row) {
  std::vector<double> out(static_cast<std::size_t>(x.cols));
  const auto widen = [&](auto element) {
    const auto* from = reinterpret_cast<const decltype(element)*>(x.row(row));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = to_float(from[i]);
  };
  switch (x.dtype) {
    case DType::f32: widen(float{}); break;
    case DType::bf16: widen(bf16{}); break;
    case DType::f16: widen(f16{}); break;
  }
  return out;
}

}  // namespace

RawExperts::RawExperts(Context& context, const Cell& cell, std::int64_t spare) : cell_(cell) {
  if (cell.weights.quant) {
    weights_.up = {nullptr,     cell.weights.dtype, cell.experts,          cell.ffn,
                   cell.hidden, cell.hidden,        cell.ffn * cell.hidden};
    keep_integers(context, spare);
    return;
  }
  bytes_ = static_cast<std::int64_t>(expert_bytes(cell, static_cast<double>(cell.experts)));
  up_ = random_projection(context, cell, cell.ffn, cell.hidden, 1);
  down_ = random_projection(context, cell, cell.hidden, cell.ffn, 2);
  weights_.up = per_expert(up_, cell, cell.ffn);
  weights_.down = per_expert(down_, cell, cell.hidden);
  weights_.activation = cell.activation;
  if (!cell.gated) return;
  gate_ = random_projection(context, cell, cell.ffn, cell.hidden, 3);
  weights_.gate = per_expert(gate_, cell, cell.ffn);
}

void RawExperts::keep_integers(Context& context, std::int64_t spare) {
  // Scales of int4 take 4 bytes here instead of 2: at most an eighth more in all.
  const double bytes = 1.125 * expert_bytes(cell_, static_cast<double>(cell_.experts));
  if (bytes > static_cast<double>(spare)) return;
  bytes_ = static_cast<std::int64_t>(bytes);
  for (std::int64_t e = 0; e < cell_.experts; ++e) {
    integers_.push_back(make_quantized(context, e));
  }
}

QuantizedExperts RawExperts::quantized(Context& context, std::int64_t expert) const {
  if (!integers_.empty()) return integers_[static_cast<std::size_t>(expert)];
  return make_quantized(context, expert);
}

QuantizedExperts RawExperts::make_quantized(Context& context, std::int64_t expert) const {
  QuantizedExperts out;
  out.activation = cell_.activation;
  out.up = quantized_projection(context, cell_, expert, cell_.ffn, cell_.hidden, 1);
  out.down = quantized_projection(context, cell_, expert, cell_.hidden, cell_.ffn, 2);
  if (cell_.gated) {
    out.gate = quantized_projection(context, cell_, expert, cell_.ffn, cell_.hidden, 3);
  }
  return out;
}

std::unique_ptr<Experts> RawExperts::make(Context& context, std::string_view implementation) const {
  if (!cell_.weights.quant) return make_experts(context, implementation, weights_, cell_.dtype);
  return make_experts(
      context, implementation, cell_.experts, [&](std::int64_t e) { return quantized(context, e); },
      cell_.dtype);
}

std::vector<double> RawExperts::reference(Context& context, std::string_view implementation,
                                          ConstMatrixView in,
                                          std::span<const ExpertInput> inputs) const {
  if (cell_.weights.quant) {
    return quantized_reference(context, multiplies_elements(cell_, implementation), in, inputs);
  }
  return reference_experts(context, weights_, in, inputs);
}

std::vector<double> RawExperts::quantized_reference(Context& context, bool dequantizes,
                                                    ConstMatrixView in,
                                                    std::span<const ExpertInput> inputs) const {
  std::map<std::int64_t, std::vector<std::size_t>> places_of_expert;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    places_of_expert[inputs[i].expert].push_back(i);
  }
  std::vector<double> ref(inputs.size() * static_cast<std::size_t>(in.cols));
  for (const auto& entry : places_of_expert) {  // clang 14 captures no structured bindings
    const std::int64_t expert = entry.first;
    const std::vector<std::size_t>& places = entry.second;
    const QuantizedExperts weights = quantized(context, expert);
    const Dequantized gate(context, weights.gate), up(context, weights.up),
        down(context, weights.down);
    ExpertWeights stand_for{{}, up.view(), down.view(), weights.activation};
    if (weights.is_gated()) stand_for.gate = gate.view();
    pool_of(context).for_each(std::ssize(places), [&](std::int64_t i, int) {
      const std::size_t place = places[static_cast<std::size_t>(i)];
      const std::vector<double> x = row_of(in, inputs[place].row);
      const auto out = dequantizes ? reference_expert(stand_for, 0, x)
                                   : reference_quantized_expert(stand_for, 0, x, cell_.dtype);
      std::copy(out.begin(), out.end(), ref.begin() + static_cast<std::int64_t>(place) * in.cols);
    });
  }
  return ref;
}

double expert_tolerance(const Cell& cell) {
  const DType dtype = cell.weights.quant ? DType::bf16 : cell.dtype;
  // Of groups joined to one scale of 8 bits: docs/numerics.md.
  const bool joins = cell.weights.quant == QuantFormat::int4;
  return layer_tolerance(dtype, cell.weights.dtype, cell.hidden, cell.ffn) +
         (joins ? 8.0 / 127 / 4 : 0.0);
}

double raw_expert_bytes(const Cell& cell) {
  if (!cell.weights.quant) return expert_bytes(cell, static_cast<double>(cell.experts));
  // One expert: bf16, integers and, for the reference, f32.
  return 3.0 * static_cast<double>(cell.hidden) * static_cast<double>(cell.ffn) * 8;
}

std::vector<std::string_view> expert_implementations_ours_first(Device device) {
  const auto all = expert_implementations(device);
  std::vector<std::string_view> names(all.begin(), all.end());
  std::stable_partition(names.begin(), names.end(),
                        [](std::string_view name) { return name == "grouped"; });
  return names;
}

void add_kernel(Record& record, const Experts& experts) {
  record["isa"] = experts.isa();
  const auto& impl = record["impl"];
  if (impl == "loop" || impl == "padded" || impl == "library") record["library"] = experts.kernel();
}

}  // namespace switchyard
