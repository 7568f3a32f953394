#include "bench/identity.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "bench/measure.h"
#include "bench/sinks.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr Measurement kEverything = {
    .cost = nullptr, .prepare = nullptr, .not_applicable = {}, .has_router = true};

std::string line_of(const Cell& cell, const RunOptions& options = {}) {
  return cell_line(identity_of(kEverything, cell, options));
}

/// A value of any type, to find out how many members an aggregate takes.
struct Anything {
  template <class T>
  operator T() const;
};

template <class T, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{(static_cast<void>(I), Anything{})...}; };
}

template <class T, std::size_t N = 64>
constexpr std::size_t num_members() {
  static_assert(N > 0);
  if constexpr (takes<T>(std::make_index_sequence<N>{})) {
    return N;
  } else {
    return num_members<T, N - 1>();
  }
}

/// One change for each member, in their order.
const std::vector<std::function<void(Cell&)>> kCellChanges = {
    [](Cell& c) { c.bench = "other"; },
    [](Cell& c) { c.impl = "other"; },
    [](Cell& c) { c.strategy = "top1"; },
    [](Cell& c) { c.routing = "other"; },
    [](Cell& c) { c.config = "other"; },
    [](Cell& c) { c.layout = Layout::block; },
    [](Cell& c) { c.dtype = DType::f16; },
    [](Cell& c) { c.weights = weight_format_from_name("f16"); },
    [](Cell& c) { c.quant.group = 128; },  // its members are below
    [](Cell& c) { c.device = Device::cuda; },
    [](Cell& c) { c.threads = 3; },
    [](Cell& c) { c.tokens = 3; },
    [](Cell& c) { c.batch_size = 3; },
    [](Cell& c) { c.seq_len = 3; },
    [](Cell& c) { c.hidden = 3; },
    [](Cell& c) { c.ffn = 3; },
    [](Cell& c) { c.experts = 3; },
    [](Cell& c) { c.top_k = 3; },
    [](Cell& c) { c.capacity_factor = 3; },
    [](Cell& c) { c.drop_policy = DropPolicy::probs; },
    [](Cell& c) { c.renormalise = true; },
    [](Cell& c) { c.activation = Activation::relu; },
    [](Cell& c) { c.gated = false; },
    [](Cell& c) { c.router_arch = RouterArch::mlp_hadamard; },
    [](Cell& c) { c.router_hidden = 3; },
    [](Cell& c) { c.router.temperature = 3; },  // its members are below
    [](Cell& c) { c.seed = 3; },
};

/// The same of RouterParams, but top_k and seed, which are the cell's.
const std::vector<std::function<void(RouterParams&)>> kRouterChanges = {
    [](RouterParams& p) { p.norm_topk = false; },
    [](RouterParams& p) { p.temperature = 3; },
    [](RouterParams& p) { p.n_group = 3; },
    [](RouterParams& p) { p.topk_group = 3; },
    [](RouterParams& p) { p.routed_scaling_factor = 3; },
    [](RouterParams& p) { p.sinkhorn_iters = 3; },
    [](RouterParams& p) { p.choice_capacity = 3; },
    [](RouterParams& p) { p.noise_std = 3; },
    [](RouterParams& p) { p.slots_per_expert = 3; },
};

/// The same of QuantOptions, but format, which is that of the weights.
const std::vector<std::function<void(QuantOptions&)>> kQuantChanges = {
    [](QuantOptions& o) { o.group = 128; },
    [](QuantOptions& o) { o.zero_points = true; },
    [](QuantOptions& o) { o.search = ScaleSearch::mse; },
};

Cell some_cell() {
  Cell cell;
  cell.weights = weight_format_from_name("int4");  // of others the quantiser means nothing
  cell.threads = 1;
  cell.capacity_factor = 1;            // without it the drop policy means nothing
  cell.router_arch = RouterArch::mlp;  // a linear one has no width
  cell.batch_size = 1;                 // without it the sequences mean nothing
  return cell;
}

TEST(Identity, ChangesWithEveryMemberOfACell) {
  EXPECT_EQ(kCellChanges.size(), num_members<Cell>())
      << "a member of Cell came or went: change it here too, and see to it that identity_of in "
         "measure.cc tells it";
  std::set<std::string> lines = {line_of(some_cell())};
  for (std::size_t i = 0; i < kCellChanges.size(); ++i) {
    Cell cell = some_cell();
    kCellChanges[i](cell);
    EXPECT_TRUE(lines.insert(line_of(cell)).second) << "member " << i << ": " << line_of(cell);
  }
}

TEST(Identity, ChangesWithEveryRouterParameter) {
  EXPECT_EQ(kRouterChanges.size() + 2, num_members<RouterParams>())
      << "a member of RouterParams came or went: change it here too, and see to it that "
         "router_params_of in measure.cc tells it";
  std::set<std::string> lines = {line_of(some_cell())};
  for (std::size_t i = 0; i < kRouterChanges.size(); ++i) {
    Cell cell = some_cell();
    kRouterChanges[i](cell.router);
    EXPECT_TRUE(lines.insert(line_of(cell)).second) << "member " << i << ": " << line_of(cell);
  }
}

TEST(Identity, ChangesWithEveryOptionOfTheQuantiser) {
  EXPECT_EQ(kQuantChanges.size() + 1, num_members<QuantOptions>())
      << "a member of QuantOptions came or went: change it here too, and see to it that "
         "identity_of in measure.cc tells it";
  std::set<std::string> lines = {line_of(some_cell())};
  for (std::size_t i = 0; i < kQuantChanges.size(); ++i) {
    Cell cell = some_cell();
    kQuantChanges[i](cell.quant);
    EXPECT_TRUE(lines.insert(line_of(cell)).second) << "member " << i << ": " << line_of(cell);
  }
}

TEST(Identity, ChangesWithTheStateOfTheCaches) {
  EXPECT_NE(line_of(some_cell(), {.cold = true}), line_of(some_cell(), {.cold = false}));
  EXPECT_EQ(line_of(some_cell(), {.iters = 3}), line_of(some_cell(), {.iters = 4}));
}

TEST(Identity, ReadsInOneLine) {
  const Record record = {
      {"schema", "switchyard/1"}, {"bench", "topk"}, {"tokens", 4},  {"capacity_factor", 1.25},
      {"routing", "trace:a b"},   {"ok", true},      {"cold", false}};
  EXPECT_EQ(cell_line(record),
            R"(bench=topk tokens=4 capacity_factor=1.25 routing="trace:a b" cold=false)");
  const std::string_view without[] = {"tokens", "routing"};
  EXPECT_EQ(cell_line(record, without), "bench=topk capacity_factor=1.25 cold=false");
}

TEST(Identity, SurvivesEveryFileFormat) {
  Cell cell = some_cell();
  cell.bench = "topk";
  cell.routing = "trace:a \"b\", c";
  cell.seed = 9007199254740993;  // 2^53 + 1 is no double
  for (const double factor : {0.0, 1.0, 1.1, 1.0 / 3}) {
    cell.capacity_factor = factor;
    const std::string line = line_of(cell);
    for (const std::string suffix : {"csv", "jsonl", "json"}) {
      const std::string path = testing::TempDir() + "identity_test." + suffix;
      std::remove(path.c_str());
      RecordFile(path).append(in_schema_order(identity_of(kEverything, cell, {})));
      EXPECT_EQ(cell_line(read_records(path)[0]), line) << suffix;
    }
  }
}

TEST(Identity, AnAxisTheSchemaDoesNotMarkIsRefused) {
  EXPECT_NO_THROW(require_identity({{"schema", "switchyard/1"}, {"tokens", 4}}));
  EXPECT_THROW(require_identity({{"tokens", 4}, {"median_ms", 4}}), Error);
  EXPECT_THROW(require_identity({{"colour", "red"}}), Error);
}

}  // namespace
}  // namespace switchyard
