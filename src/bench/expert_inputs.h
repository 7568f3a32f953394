#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "bench/cost.h"
#include "bench/dispatch_inputs.h"
#include "bench/oracle.h"
#include "bench/record.h"
#include "switchyard/experts.h"
#include "switchyard/quant.h"

namespace switchyard {

/// Random weights of E experts, before any implementation's own order. Their scale, 1 / sqrt of a
/// row's width, keeps every activation near 1. Integer ones are made from bf16 ones one expert at a
/// time. They are kept where they need at most `spare` bytes and else made anew each time they are
/// wanted: beside an implementation's own copy they may not fit into memory.
class RawExperts {
 public:
  RawExperts(Context& context, const Cell& cell, std::int64_t spare);

  /// Of integers only up's shape: a layer on their experts asks for no more.
  const ExpertWeights& weights() const noexcept { return weights_; }

  /// Bytes held, and of those the ones that `spare` paid for.
  std::int64_t bytes() const noexcept { return bytes_; }
  std::int64_t spare_bytes() const noexcept { return integers_.empty() ? 0 : bytes_; }

  /// Throws Error(unavailable) for an implementation that does not take these weights.
  std::unique_ptr<Experts> make(Context& context, std::string_view implementation) const;

  /// ref [|inputs|, H]: rows of `in` through their experts (see reference_experts), as the
  /// implementation multiplies integer weights: with rows that are quantised too, or with elements.
  std::vector<double> reference(Context& context, std::string_view implementation,
                                ConstMatrixView in, std::span<const ExpertInput> inputs) const;

 private:
  void keep_integers(Context& context, std::int64_t spare);
  QuantizedExperts quantized(Context& context, std::int64_t expert) const;
  QuantizedExperts make_quantized(Context& context, std::int64_t expert) const;
  std::vector<double> quantized_reference(Context& context, bool dequantizes, ConstMatrixView in,
                                          std::span<const ExpertInput> inputs) const;

  Cell cell_;
  std::int64_t bytes_ = 0;
  std::vector<QuantizedExperts> integers_;  // [E], of one expert each; or empty
  Matrix gate_, up_, down_;                 // [E*F, H], [E*F, H], [E*H, F]
  ExpertWeights weights_;
};

/// What implementations must give. Those that multiply integers as elements give something else, so
/// there may be two of it, each made when the first of its kind asks.
class ExpertReference {
 public:
  template <class Make>
  const std::vector<double>& of(const Cell& cell, Make&& make) {
    std::vector<double>& out = multiplies_elements(cell, cell.impl) ? of_elements_ : of_weights_;
    if (out.empty()) out = make();
    return out;
  }

 private:
  std::vector<double> of_weights_, of_elements_;
};

/// layer_tolerance of the cell's types. Of integer weights that of bf16, whatever the activations:
/// a sum that falls on the other side of a step between two int8 values is off by a whole step. Of
/// int4 more, since its groups may be joined (docs/numerics.md).
double expert_tolerance(const Cell& cell);

/// Bytes of the weights that RawExperts holds without anything to spare.
double raw_expert_bytes(const Cell& cell);

/// Implementations of the experts, ours first.
std::vector<std::string_view> expert_implementations_ours_first(Device device = Device::cpu);

/// isa, and library where the implementation calls one.
void add_kernel(Record& record, const Experts& experts);

}  // namespace switchyard
