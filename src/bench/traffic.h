#pragma once

#include "bench/dispatch_inputs.h"

namespace switchyard {

/// Bytes that a stage reads and writes on the way it takes, mean over the draws: a row counts each
/// time a pass over it begins, so packed copies, padding and rows gathered K times all show. What a
/// matrix product reads again from the caches does not count. combine moves combined_bytes.

/// pack: kept rows read (`reads_tokens_once`: each token once), all rows written, padding too.
double moved_by_pack(const Cell& cell, const Plans& plans, bool reads_tokens_once = false);

/// The experts of cell.impl: weights, rows in and out, F wide values between the products written
/// and read. `padded` copies kept rows to [E, max n, H] and back and computes every row there, of
/// experts without rows too; `loop` copies tokens to rows where the layout is fused.
double moved_by_experts(const Cell& cell, const Plans& plans);

}  // namespace switchyard
