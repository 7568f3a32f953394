#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gemm/quant_finish.h"
#include "gemm/quant_kernel.h"
#include "gemm/quant_weights.h"
#include "switchyard/context.h"

namespace switchyard::gemm {

/// One line of quant_kernels.inc.
struct QuantKernel {
  Isa isa;
  QuantFormat weights;
  std::int64_t min_rows;
  std::int64_t stripes;      ///< most at once
  std::int64_t stripe_rows;  ///< up to which several are given
  QuantFn run;
  BeginFn begin;  ///< nothing to do when null
  EndFn end;
  FindFinishFn find_finish;  ///< of a kernel that finishes rows itself, else null
};

std::span<const QuantKernel> quant_kernels() noexcept;

/// Of the kernels for `format` that a context with `cap` may run: the fastest one, and after it
/// those that serve fewer rows.
std::vector<const QuantKernel*> choose_quant_kernels(Isa cap, QuantFormat format);

RowFn find_quant_row(Isa cap, DType element) noexcept;

/// Whether a kernel reads weights in the order of their addresses, as memory here serves that best.
bool reads_in_order(const QuantKernel& kernel) noexcept;

/// How many stripes a kernel multiplies with `rows` rows in one call.
std::int64_t stripes_at_once(const QuantKernel& kernel, std::int64_t rows) noexcept;

}  // namespace switchyard::gemm
