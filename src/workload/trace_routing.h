#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "switchyard/context.h"
#include "switchyard/routing.h"
#include "workload/source.h"
#include "workload/trace.h"

namespace switchyard {

/// T tokens of a trace as a Routing over the shape's E experts. Recorded tokens come in order,
/// from a place that differs from draw to draw (draw 0: the first token), and start again at the
/// end. Where only loads were recorded, each token takes K distinct experts such that expert e is
/// taken with probability K * load_e / sum(load): the recorded load is what comes out.
/// Throws Error(invalid_argument) when the trace has more experts than E or another K.
Routing routing_of(Context& context, const Trace& trace, const WorkloadShape& shape,
                   std::uint64_t seed, std::uint64_t draw);

/// Throws as routing_of does.
void require_fits(const Trace& trace, const WorkloadShape& shape);

/// The probability that one token takes each expert: K * load / sum(load), and where that passes 1
/// (loads recorded with another K) 1, the rest shared in proportion.
std::vector<double> inclusion_probabilities(std::span<const std::int64_t> load, int top_k);

/// What a user should know: the trace's own notes, and how its tokens become the shape's.
std::vector<std::string> notes_on(const Trace& trace, const WorkloadShape& shape);

}  // namespace switchyard
