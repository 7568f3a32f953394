#include "bench/grid.h"

#include <utility>

#include "base/check.h"
#include "bench/target.h"
#include "workload/configs.h"

namespace switchyard {
namespace {

constexpr std::size_t kMaxCells = 1'000'000;
constexpr std::int64_t kUsualSeqLen = 128;

/// Replaces each cell by one copy per value, set by `set`; an empty axis leaves the cells alone.
template <class T, class Set>
void cross(std::vector<Cell>& cells, const std::vector<T>& axis, Set&& set) {
  if (axis.empty()) return;
  require(cells.size() <= kMaxCells / axis.size(), "the sweep has more than {} cells: narrow it",
          kMaxCells);
  std::vector<Cell> product;
  product.reserve(cells.size() * axis.size());
  for (const Cell& cell : cells) {
    for (const T& value : axis) {
      product.push_back(cell);
      set(product.back(), value);
    }
  }
  cells = std::move(product);
}

/// Tokens as sequences: one axis alone takes the other's usual value.
void cross_sequences(std::vector<Cell>& cells, const Grid& grid) {
  if (grid.seq_len.empty() && grid.batch_size.empty()) return;
  require(grid.tokens.empty(),
          "tokens are given twice: expected --tokens, or --seq-len and --batch-sizes");
  for (Cell& cell : cells) {
    cell.seq_len = kUsualSeqLen;
    cell.batch_size = 1;
  }
  cross(cells, grid.seq_len, [](Cell& c, std::int64_t v) { c.seq_len = v; });
  cross(cells, grid.batch_size, [](Cell& c, std::int64_t v) { c.batch_size = v; });
  for (Cell& cell : cells) {
    require(cell.batch_size <= kMaxTokens / cell.seq_len,
            "--batch-sizes {} with --seq-len {}: expected a product of at most {}", cell.batch_size,
            cell.seq_len, kMaxTokens);
    cell.tokens = cell.batch_size * cell.seq_len;
  }
}

void set_config(Cell& cell, const std::string& name) {
  const NamedConfig& config = find_config(name);
  cell.config = name;
  cell.experts = config.experts;
  cell.hidden = config.hidden;
  cell.ffn = config.ffn;
  cell.top_k = config.top_k;
}

/// Zero points are of int4, so that one sweep may ask for them and have int8 too.
void set_quant_format(Cell& cell) {
  cell.quant.format = *cell.weights.quant;
  if (cell.quant.format == QuantFormat::int8) cell.quant.zero_points = false;
}

/// The implementation sinkhorn is that strategy, whatever --strategy says.
void set_impl(Cell& cell, const std::string& name) {
  cell.impl = name;
  if (name == "sinkhorn") cell.strategy = name;
}

void check_cell(const Cell& cell) {
  require(cell.top_k <= cell.experts, "--top-k {} with --experts {}: expected at most the experts",
          cell.top_k, cell.experts);
}

}  // namespace

std::vector<std::vector<Cell>> expand(const Grid& grid) {
  const Target& target = find_target(grid.base.bench);
  const StrategyRegistry registry = StrategyRegistry::builtin();
  std::vector<Cell> cells{grid.base};
  cross(cells, grid.config, set_config);
  cross(cells, grid.hidden, [](Cell& c, std::int64_t v) { c.hidden = v; });
  cross(cells, grid.ffn, [](Cell& c, std::int64_t v) { c.ffn = v; });
  cross(cells, grid.experts, [](Cell& c, std::int64_t v) { c.experts = static_cast<int>(v); });
  cross(cells, grid.top_k, [](Cell& c, std::int64_t v) { c.top_k = static_cast<int>(v); });
  cross(cells, grid.dtype, [](Cell& c, DType v) {
    c.dtype = v;
    c.weights = {v, {}};
  });
  cross(cells, grid.weights, [](Cell& c, WeightFormat v) { c.weights = v; });
  cross(cells, grid.threads, [](Cell& c, std::int64_t v) { c.threads = static_cast<int>(v); });
  cross(cells, grid.strategy,
        [&](Cell& c, const std::string& v) { c.strategy = registry.find(v).name; });
  cross(cells, grid.router, [](Cell& c, RouterArch v) { c.router_arch = v; });
  cross(cells, grid.routing, [](Cell& c, const std::string& v) { c.routing = v; });
  cross(cells, grid.layout, [](Cell& c, Layout v) { c.layout = v; });
  cross(cells, grid.capacity_factor, [](Cell& c, double v) { c.capacity_factor = v; });
  cross(cells, grid.tokens, [](Cell& c, std::int64_t v) { c.tokens = v; });
  cross_sequences(cells, grid);

  std::vector<std::string> impls = grid.impl;
  const Device device = grid.base.device;
  if (impls.empty()) impls.emplace_back(implementations_of(target, device).front());
  for (const std::string& impl : impls) require_implementation(target, device, impl);
  require(cells.size() <= kMaxCells / impls.size(), "the sweep has more than {} cells: narrow it",
          kMaxCells);
  std::vector<std::vector<Cell>> groups;
  for (Cell& cell : cells) {
    cell.router.top_k = cell.top_k;
    cell.router.seed = cell.seed;
    if (cell.weights.quant) set_quant_format(cell);
    check_cell(cell);
    std::vector<Cell> group{cell};
    cross(group, impls, set_impl);
    // Once is enough for what does not depend on --strategy.
    if (!grid.strategy.empty() && cell.strategy != grid.strategy.front()) {
      std::erase_if(group, [](const Cell& c) { return c.impl == "sinkhorn"; });
    }
    if (!group.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace switchyard
