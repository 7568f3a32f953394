#pragma once

#include <cstdint>
#include <span>

#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard {

/// A linear gate with inputs like a model's: half of a hidden state's variance lies in a few
/// directions all tokens share (Ethayarajh 2019, arXiv 1909.00512, measured such anisotropy), the
/// first of them with a mean of its own. That makes some experts systematically hotter, and makes
/// experts hot together.
///   x[t, :] = sqrt(1/2) * (z[t, :] + sum over d of a[t, d] * u[d, :]),  z, u standard normal,
///   a[t, d] normal with mean square 2^-(d+1)
/// so an element of x has variance 1 and a logit x . router[e, :] has variance 1.

/// x [T, H] of one draw. Throws Error(invalid_argument) for a malformed view or H < 1.
void fill_gate_hidden(Context& context, MatrixView x, std::uint64_t seed, std::uint64_t draw);

/// router [E, H]: the same for every draw.
void fill_gate_router(Context& context, MatrixView router, std::uint64_t seed);

/// out [T, E] = x router^T in f32, of the x and router above, without storing x: 2*T*H*E flops.
void gate_logits(Context& context, std::uint64_t seed, std::uint64_t draw, std::int64_t tokens,
                 int experts, std::int64_t hidden, std::span<float> out);

}  // namespace switchyard
