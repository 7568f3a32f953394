#pragma once

#include <cstdint>
#include <string_view>

#include "bench/cell.h"
#include "bench/target.h"
#include "workload/source.h"

namespace switchyard {

/// What a cell needs and does. In double: shapes are the user's, and products of them may pass
/// 2^63.
struct Cost {
  double shared_bytes = 0;   ///< memory that the implementations of a group have in common
  double own_bytes = 0;      ///< memory of this one
  double flops = 0;          ///< of useful work
  double touched_bytes = 0;  ///< each byte once
};

/// For --dry-run, with the buffer that empties the caches. Values over 2^63 stay just below it.
CellCost cell_cost(const Cost& cost);

/// The load that a cell's routing puts on its experts, known before the cell is built: drawn when
/// T*E is small or the source is a trace, else scaled up from the first tokens.
struct ExpectedLoad {
  double assignments = 0;  ///< of tokens to experts, dropped ones too
  double kept = 0;         ///< assignments, dropped ones left out
  double active = 0;       ///< experts with kept assignments
  double max_rows = 0;     ///< kept by the fullest expert
  double rows = 0;         ///< packed, padding included
};

ExpectedLoad expected_load(const Cell& cell, const RoutingSource& source);

/// Bytes of `rows` activations of width H.
double row_bytes(const Cell& cell, double rows);

/// Bytes of the weights of `experts` experts.
double expert_bytes(const Cell& cell, double experts);

/// Whether an implementation turns a cell's integer weights into elements before it multiplies
/// them.
bool dequantizes(const Cell& cell, std::string_view implementation);

/// Whether rows stay elements beside integer weights: of those implementations, and of any on a
/// device, where int4 becomes elements on its way to the product.
bool multiplies_elements(const Cell& cell, std::string_view implementation);

/// The format in which cell.impl multiplies weights: `weights`, or the elements made of them.
WeightFormat multiplied_weights(const Cell& cell);

/// Bytes of `experts` experts in that format.
double multiplied_bytes(const Cell& cell, double experts);

/// 2*H*F per projection and row: 3 projections for gated experts, 2 for plain ones.
double expert_flops(const Cell& cell, double rows);

/// Memory of the routings and plans of all draws, and of scratch that routing takes.
double routing_bytes(const Cell& cell, const ExpectedLoad& load);

/// Experts of cell.impl: prepacked weights, and scratch for the load.
double implementation_bytes(const Cell& cell, const ExpectedLoad& load);

}  // namespace switchyard
