#pragma once

#include <string_view>

#include "bench/cell.h"
#include "bench/dispatch_inputs.h"
#include "bench/limits.h"
#include "bench/record.h"

namespace switchyard {

/// (2 + 2K) * H * element size: pack reads T*H and writes T*K*H elements, combine the reverse.
/// One of the two moves half of it. K is the mean of the tokens' assignments, dropped ones too.
double strict_bytes_per_token(const Cell& cell, const Plans& plans);

/// Rows read and written, each once, mean over the draws. Rows of tokens that nobody kept are not
/// read; padding rows are written by pack and ignored by combine, which writes every token.
double packed_bytes(const Cell& cell, const Plans& plans);
double combined_bytes(const Cell& cell, const Plans& plans);
/// The written ones among packed_bytes.
double written_bytes(const Cell& cell, const Plans& plans);

/// Bytes of [T, E] logits; of the experts and weights chosen from them.
double logits_bytes(const Cell& cell);
double selection_bytes(double assignments);

/// Mean over the draws.
double mean_assignments(const Draws& draws);

/// Of the router's matrix products, 2*T*H*E for a linear one; and bytes of its weights.
double router_flops(const Cell& cell);
double router_bytes(const Cell& cell);

/// The limit of moving bytes; none when the bandwidth was not measured.
Limit bandwidth_limit(double bytes, double bandwidth) noexcept;

/// The limit of moving whole rows: no faster than rows are copied, nor than what is written of them
/// can be: on AMD (Zen 4) writing is slower than reading, and pack writes twice what it reads.
Limit rows_limit(double bytes, double written, const Ceilings& ceilings) noexcept;

/// The matrix peak of what a kernel of `isa` multiplies: bf16 where the name says so, else f32.
/// 0 when it was not measured.
double peak_of(const Ceilings& ceilings, std::string_view isa);
/// The same for weights: on AMX those of f32 are multiplied in parts, integer ones as 8-bit
/// integers.
double peak_of(const Ceilings& ceilings, std::string_view isa, const WeightFormat& weights);

/// limit_ms, what it is the larger of, and limit_kind; nothing for a limit of 0.
void add_limit(Record& record, const Limit& limit);

}  // namespace switchyard
