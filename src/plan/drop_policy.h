#pragma once

#include <cstdint>

#include "plan/ranking.h"
#include "switchyard/context.h"
#include "switchyard/routing.h"

namespace switchyard {

/// Ranks again the assignments of every expert that has more than `capacity`: the `capacity` of
/// largest weight (ties: the lower token) get 0 .. capacity-1 in token order, with base 0; the rest
/// get kDropped.
void rank_largest_weights(Context& context, const Routing& routing, std::int64_t capacity,
                          const Ranking& ranking);

inline constexpr std::int32_t kDropped = 0x7fffffff;

}  // namespace switchyard
