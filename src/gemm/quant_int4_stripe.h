#pragma once

#include "gemm/quant_kernel.h"

// Internal linkage throughout: each ISA's kernels get a copy of their own.
namespace switchyard::gemm {
namespace {

/// Where the parts of an int4 stripe begin, in bytes of it, and how many it has.
struct Int4Stripe {
  std::int64_t scales, zeros, codes, bytes;

  Int4Stripe(std::int64_t depth, std::int64_t group, bool zero_points) noexcept {
    const std::int64_t groups = depth / group;
    scales = 0;
    zeros = groups * kStripeColumns * 2;
    codes = (zeros + (zero_points ? groups * kStripeColumns : 0) + 63) / 64 * 64;
    bytes = codes + depth * kStripeColumns / 2;
  }
  explicit Int4Stripe(const QuantArgs& q) noexcept : Int4Stripe(q.depth, q.group, q.zero_points) {}
};

// Reading in order (CpuFeatures::reads_in_order), for the kernels that do; measured in the heads of
// quant_int4_x86_avx512_bf16.cc and quant_int4_x86_avx2.cc.

/// Up to so many rows a stripe is read as it lies, with nothing fetched but the next beginning.
inline constexpr std::int64_t kPlainInt4Rows = 2;

/// A stripe's scales and zero points into L1: they are needed before the codes that follow them.
inline void load_scales(const QuantArgs& q) noexcept {
  const std::byte* codes = q.stripe + Int4Stripe(q).codes;
  for (const std::byte* line = q.stripe; line < codes; line += 64) {
    static_cast<void>(*static_cast<const volatile std::byte*>(line));
  }
}

/// The first lines of the next stripe, where there is one: the hardware's prefetchers stop at the
/// end of this one, and memory would be idle while its rows are finished.
[[gnu::always_inline]] inline void fetch_beginning(const std::byte* next) noexcept {
  constexpr int kLines = 32;
  if (next == nullptr) return;
  for (int i = 0; i < kLines; ++i) __builtin_prefetch(next + i * 64, 0, 3);
}

/// The lines of the next stripe in the order they lie in, scales before codes, for kernels that
/// fetch it into L2 beside their products: a jump in that order costs as much time as some 10 KiB.
class NextInt4Stripe {
 public:
  explicit NextInt4Stripe(const QuantArgs& q) noexcept
      : group_bytes_(q.group * 16 + 64 + (q.zero_points ? 32 : 0)),
        due_((q.next != nullptr ? q.next : q.stripe) + q.k_begin / q.group * group_bytes_),
        line_(due_) {}

  /// A group begins: fetches what the groups before have left of their share.
  [[gnu::always_inline]] inline void group() noexcept {
    for (; line_ < due_; line_ += 64) __builtin_prefetch(line_, 0, 2);
    due_ += group_bytes_;
  }
  /// The line to fetch with the next line of codes.
  inline const std::byte* line() noexcept {
    const std::byte* line = line_;
    line_ += 64;
    return line;
  }

 private:
  std::int64_t group_bytes_;
  const std::byte* due_;
  const std::byte* line_;
};

}  // namespace
}  // namespace switchyard::gemm
