#pragma once

#include <cstdint>
#include <span>

#include "switchyard/context.h"
#include "switchyard/routing.h"
#include "switchyard/view.h"

namespace switchyard {

/// Auxiliary losses of one router over a batch, and the bias update that replaces them. Logits x
/// are [T, E] f32; sums are double, in an order that the thread count does not change. Infinite
/// logits count as route() has them. All are 0 when T is 0. All throw Error(invalid_argument) for
/// logits that are not f32, hold a NaN or a row of -inf, for a routing of other sizes or one that
/// validate() refuses.

/// coefficient * mean over t of logsumexp(x_t)^2 (ST-MoE, Zoph et al. 2022, arXiv 2202.08906):
/// keeps logits small. +inf when a logit is.
double z_loss(Context& context, ConstMatrixView logits, double coefficient);

/// coefficient * E * sum over i of f_i P_i, where f_i is the share of all assignments that the
/// routing gives to expert i (n_i / (T K) for top-k) and P_i the mean over t of p_ti, as `affinity`
/// has it (GShard, Lepikhin et al. 2020, arXiv 2006.16668; Switch, Fedus et al. 2021,
/// arXiv 2101.03961). It equals the coefficient when either f or P is uniform, and is at most
/// coefficient * E / K.
double balance_loss(Context& context, ConstMatrixView logits, const Routing& routing,
                    Affinity affinity, double coefficient);

/// The mean over sequences of balance_loss of each: tokens [0, sequence_length) are the first
/// sequence, and so on; the last may be shorter. DeepSeek-V3 (arXiv 2412.19437, equations 17 to 20)
/// writes it as coefficient * sum f_i P_i with f_i = E / (K T) * n_i, T and n_i of the sequence,
/// and P_i the mean of the affinities divided by their sum over the experts; it counts in n_i the
/// top K of the affinities alone, here the assignments made count, bias and groups included. Throws
/// also for sequence_length < 1.
double sequence_balance_loss(Context& context, ConstMatrixView logits, const Routing& routing,
                             Affinity affinity, std::int64_t sequence_length, double coefficient);

/// Loss-free balancing (Wang et al. 2024, arXiv 2408.15664): b_i += rate * sign(mean(n) - n_i), for
/// n_i assignments of expert i in the batch before. An expert at the mean keeps its bias.
/// Throws Error(invalid_argument) for spans of different size, a negative n_i or a rate that is not
/// finite.
void update_bias(std::span<float> bias, std::span<const std::int64_t> assignments_of_expert,
                 float rate);

}  // namespace switchyard
