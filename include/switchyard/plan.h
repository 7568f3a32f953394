#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "switchyard/context.h"
#include "switchyard/routing.h"

namespace switchyard {

/// How expert rows lie.
///   compact   no padding: expert e owns n_e rows
///   capacity  [E, C, H]: every expert owns C rows; assignments beyond C are dropped
///   block     n_e rounded up to a multiple of block_rows
///   fused     compact row numbers, but rows are never materialised: the GEMM gathers tokens
enum class Layout { compact, capacity, block, fused };

std::string_view name_of(Layout layout) noexcept;
/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
Layout layout_from_name(std::string_view name);

/// Which assignments an expert over capacity keeps.
///   position  the first C in token order
///   probs     the C largest weights; ties to the lower token
enum class DropPolicy { position, probs };

std::string_view name_of(DropPolicy policy) noexcept;
/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
DropPolicy drop_policy_from_name(std::string_view name);

struct PlanOptions {
  Layout layout = Layout::compact;
  /// C = ceil(capacity_factor * A / E), A = num_assignments (T*K for top-k routing). 0: dropless.
  /// With any layout a factor > 0 drops; capacity layout with 0 takes C = max n_e.
  double capacity_factor = 0.0;
  DropPolicy drop_policy = DropPolicy::position;
  /// Scale a token's kept weights to their sum before dropping (when they sum to more than 0).
  bool renormalise = false;
  std::int64_t block_rows = 64;  ///< block layout only; >= 1
};

/// Where: for each expert its rows, for each row its token, for each assignment its row.
/// Rows of an expert are in token order. All counts fit 31 bits (checked); element offsets
/// computed from them need 64.
struct DispatchPlan {
  Layout layout = Layout::compact;
  std::int64_t num_tokens = 0;             ///< T
  int num_experts = 0;                     ///< E
  std::int64_t capacity = 0;               ///< C; 0 when dropless (capacity layout: max n_e)
  std::vector<std::int64_t> expert_begin;  ///< [E+1] first row of each expert, padding included
  std::vector<std::int64_t> expert_rows;   ///< [E] n_e: kept rows, the first of its range
  std::vector<std::int32_t> token_of_row;  ///< [R], -1: padding
  std::vector<std::int32_t> row_of_assignment;  ///< [A], -1: dropped
  std::vector<float> weight_of_assignment;      ///< [A], 0 when dropped, renormalised if asked
  std::vector<std::int64_t> token_begin;        ///< [T+1] as in Routing

  std::int64_t num_rows() const noexcept { return static_cast<std::int64_t>(token_of_row.size()); }
};

/// Linear time (drop policy probs: n log n per expert over capacity), parallel, the same bits for
/// any thread count. Reuses `plan`'s memory. Validates the routing.
/// Throws Error(invalid_argument) for bad options or more than 2^31-1 rows, and leaves `plan`
/// unspecified.
void make_plan(Context& context, const Routing& routing, const PlanOptions& options,
               DispatchPlan& plan);

}  // namespace switchyard
