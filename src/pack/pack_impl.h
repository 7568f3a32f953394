#pragma once

#include "pack/pack_kernel.h"
#include "switchyard/context.h"
#include "switchyard/pack.h"

namespace switchyard {

/// The ISA of the kernel that pack runs on this context, as records name it.
Isa pack_isa(const Context& context) noexcept;

/// pack the other way round, token by token: a row of x is read once, whatever K is, and written to
/// all its places. For a caller that has each token's places while the rest is still being planned.
class TokenPacker {
 public:
  /// rows: as many as the plan will have, or more.
  /// Throws Error(invalid_argument) for a shape or dtype that does not fit.
  TokenPacker(Context& context, ConstMatrixView x, MatrixView rows);

  /// Writes the rows of tokens [begin, end), whose part of `plan` is there, on this thread.
  void pack(const DispatchPlan& plan, std::int64_t begin, std::int64_t end) const noexcept;

  /// Writes 0 to the padding rows of a whole plan.
  void clear_padding(Context& context, const DispatchPlan& plan) const noexcept;

 private:
  PackRows job_;
  PackKernel* kernel_;
};

}  // namespace switchyard
