#pragma once

#include <cstdint>

#include "gemm/panel.h"
#include "switchyard/layout.h"
#include "switchyard/quant.h"

namespace switchyard::gemm {

/// Where the weights of one matrix [rows, cols] = [N, K] lie once packed, as functions of (n, k):
/// what gemm_kernel.h and quant_kernel.h say in words. Sizes are padded: n up to whole stripes, k
/// up to the format's depth unit. Coordinates beyond the matrix hold zeros (integer codes: a scale
/// of 0 makes them vanish).
///
/// With a gate there is a third mode, 0: gate, 1: up. Each then has half of a stripe's columns.

/// Of PackedWeights, in elements. All kernels of a weight type share one format: f32 and f16 are
/// rows of 32 columns, bf16 is AMX's B tile (16 pairs of depths by 16 columns), which AVX-512 BF16
/// reads as vectors of 16 pairs and AVX2 and AVX-512 as even and odd halves.
TensorLayout prepack_layout(DType dtype, std::int64_t rows, std::int64_t cols, bool gated);

/// The codes of QuantWeights, from the first one on: in bytes of int8, in half bytes of int4 (low
/// half first). Scales and zero points lie between the codes of a stripe and those of the next, so
/// the layout has a gap there.
TensorLayout prepack_layout(const QuantOptions& options, std::int64_t rows, std::int64_t cols,
                            bool gated);

/// Activations (row, k) of a panel, in elements: rows, or AMX's A tiles (16 rows by 32 depths). Of
/// split tiles (row, k, part) in elements of bf16, for a panel of just `rows`.
TensorLayout panel_layout(const PanelShape& shape, std::int64_t rows);

}  // namespace switchyard::gemm
