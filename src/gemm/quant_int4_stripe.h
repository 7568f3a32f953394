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

}  // namespace
}  // namespace switchyard::gemm
