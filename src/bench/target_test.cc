#include "bench/target.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "bench/identity.h"
#include "bench/oracle.h"
#include "bench/record.h"
#include "bench/target_testing.h"
#include "plan/random_routing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::expect_measured;
using testing::is_unavailable;
using testing::kQuick;
using testing::run;
using testing::small_cell;
using testing::some_ceilings;

std::vector<Cell> all_implementations(const Target& target) {
  std::vector<Cell> cells;
  for (const auto impl : target.implementations) cells.push_back(small_cell(target.name, impl));
  return cells;
}

TEST(Targets, MeasureEveryImplementation) {
  for (const Target& target : targets()) {
    const auto records = run(all_implementations(target));
    ASSERT_EQ(records.size(), target.implementations.size());
    for (std::size_t i = 0; i < records.size(); ++i) {
      const Cell cell = small_cell(target.name, target.implementations[i]);
      EXPECT_EQ(cell_line(records[i]), cell_line(target.identity(cell, kQuick)));
      expect_measured(records[i]);
    }
  }
}

TEST(Targets, MeasureEveryRoutingSource) {
  for (const char* routing : {"uniform", "zipf:1.2", "skew:2:3", "gate"}) {
    for (const Target& target : targets()) {
      Cell cell = small_cell(target.name, target.implementations[0]);
      cell.routing = routing;
      expect_measured(run({cell})[0]);
    }
  }
}

TEST(Targets, MeasureEveryLayoutAndDType) {
  for (const char* bench :
       {"pack", "perm", "combine", "dispatch", "capacity", "experts", "layer"}) {
    for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block, Layout::fused}) {
      Cell cell = small_cell(bench, find_target(bench).implementations[0]);
      cell.layout = layout;
      expect_measured(run({cell})[0]);
    }
    for (const DType dtype : {DType::f32, DType::f16}) {
      Cell cell = small_cell(bench, find_target(bench).implementations[0]);
      cell.dtype = cell.weights.dtype = dtype;
      expect_measured(run({cell})[0]);
    }
    Cell cell = small_cell(bench, find_target(bench).implementations[0]);
    cell.capacity_factor = 0.7;
    cell.renormalise = true;
    cell.drop_policy = DropPolicy::probs;
    const Record record = run({cell})[0];
    expect_measured(record);
    EXPECT_GT(record["drop_rate"].get<double>(), 0) << record.dump();
  }
}

TEST(Targets, MeasureATrace) {
  const std::string path = ::testing::TempDir() + "target_test_trace.jsonl";
  std::ofstream file(path);
  for (int t = 0; t < 11; ++t) {
    file << fmt::format(R"({{"type":"route","layer":0,"token_idx":{},"topk_ids":[{},{}],)"
                        R"("topk_weights":[0.75,0.25]}})"
                        "\n",
                        t, t % 5, (t + 1) % 5);
  }
  file.close();
  for (const Target& target : targets()) {
    Cell cell = small_cell(target.name, target.implementations[0]);
    cell.routing = "trace:" + path;
    const Record record = run({cell})[0];
    if (target.name == "topk" || target.name == "router" || target.name == "select_plan") {
      EXPECT_EQ(record["error_code"], "invalid_argument") << record.dump();
    } else {
      expect_measured(record);
      EXPECT_EQ(record["experts_active"], 5);
      EXPECT_FALSE(record.contains("t_logit_ms"));
      EXPECT_FALSE(record.contains("t_select_ms"));
    }
  }
}

TEST(Targets, SelectPlanIsSelectionAndPlan) {
  for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block}) {
    for (const char* impl : {"fused_select", "naive_topk"}) {
      Cell cell = small_cell("select_plan", impl);
      cell.layout = layout;
      cell.capacity_factor = 0.7;
      cell.drop_policy = DropPolicy::probs;
      const Record record = run({cell})[0];
      expect_measured(record);
      EXPECT_TRUE(record.contains("t_select_ms")) << record.dump();
      EXPECT_TRUE(record.contains("t_plan_ms")) << record.dump();
      EXPECT_EQ(record["bytes"].get<double>(),
                4.0 * static_cast<double>(cell.tokens) * cell.experts);
    }
  }
}

TEST(Targets, SayWhichStagesRan) {
  Cell cell = small_cell("layer", "grouped");
  Record record = run({cell})[0];
  for (const char* field : {"t_logit_ms", "t_select_ms", "t_plan_ms", "t_pack_ms", "t_route_ms",
                            "t_experts_ms", "t_combine_ms", "routing_share", "weight_bytes"}) {
    EXPECT_TRUE(record.contains(field)) << field;
  }
  cell.routing = "zipf:1";
  record = run({cell})[0];
  EXPECT_FALSE(record.contains("t_logit_ms"));
  EXPECT_TRUE(record.contains("t_select_ms"));
}

TEST(Targets, RoutersAreAnAxisOfRouterAndLayer) {
  for (const char* bench : {"router", "layer"}) {
    for (const char* routing : {"uniform", "gate"}) {
      for (const RouterArch arch :
           {RouterArch::linear, RouterArch::mlp, RouterArch::mlp_hadamard}) {
        Cell cell = small_cell(bench, find_target(bench).implementations[0]);
        cell.routing = routing;
        cell.router_arch = arch;
        const Record record = run({cell})[0];
        expect_measured(record);
        EXPECT_EQ(record["router"], name_of(arch));
        EXPECT_TRUE(record.contains("t_logit_ms"));
        EXPECT_EQ(record.contains("router_hidden"), arch != RouterArch::linear);
      }
    }
  }
  Cell cell = small_cell("router", "fused_select");
  EXPECT_EQ(run({cell})[0]["flops"], 2.0 * 37 * 72 * 6);
  cell.router_arch = RouterArch::mlp;
  EXPECT_EQ(run({cell})[0]["flops"], 2.0 * 37 * (72 * 64 + 64 * 6));
  cell.router_hidden = 10;
  EXPECT_EQ(run({cell})[0]["flops"], 2.0 * 37 * (72 * 10 + 10 * 6));
  cell.router_arch = RouterArch::mlp_hadamard;
  EXPECT_EQ(run({cell})[0]["flops"], 2.0 * 37 * (2 * 72 * 10 + 72 * 6));
  cell.routing = "zipf:1";
  EXPECT_EQ(run({cell})[0]["error_code"], "invalid_argument");
}

TEST(Targets, RouterStagesAreThoseThatRan) {
  Cell cell = small_cell("router", "fused_select");
  cell.routing = "skew:2:4";
  const Record select = run({cell})[0];
  cell.impl = "fused_logits";
  const Record logits = run({cell})[0];
  expect_measured(select);
  expect_measured(logits);
  EXPECT_TRUE(select.contains("t_logit_ms"));
  EXPECT_FALSE(logits.contains("t_logit_ms"));
  for (const char* field : {"t_select_ms", "t_pack_ms", "t_route_ms"}) {
    EXPECT_TRUE(select.contains(field) && logits.contains(field)) << field;
  }
  EXPECT_EQ(select["load_cv"], logits["load_cv"]);
  EXPECT_GT(select["load_max_over_mean"].get<double>(), 2.5);  // 2 of 6 experts take nearly all
  for (const char* way : {"fused_logits", "naive_topk"}) {
    cell.impl = way;
    cell.strategy = "hash";
    EXPECT_EQ(run({cell})[0]["error_code"], "invalid_argument") << way;
  }
}

TEST(Targets, MaskedMatmulRefusesManyExperts) {
  for (const char* bench : {"router", "experts", "layer"}) {
    Cell cell = small_cell(bench, "masked_matmul");
    cell.experts = 65;
    const Record record = run({cell})[0];
    EXPECT_EQ(record["error_code"], "invalid_argument");
    EXPECT_NE(record["error"].get<std::string>().find("because"), std::string::npos) << record;
  }
}

TEST(Targets, ReportLosses) {
  for (const char* bench : {"router", "layer"}) {
    Cell cell = small_cell(bench, find_target(bench).implementations[0]);
    const Record even = run({cell})[0];
    EXPECT_NEAR(even["balance_loss"].get<double>(), 1, 0.3);
    EXPECT_EQ(even["balance_loss"], even["sequence_balance_loss"]);  // one sequence
    cell.batch_size = 5;
    cell.seq_len = 8;
    cell.tokens = 40;
    cell.routing = "skew:2:1";
    for (const char* strategy : {"topk_softmax", "sigmoid_bias"}) {
      cell.strategy = strategy;
      const Record skewed = run({cell})[0];
      EXPECT_GT(skewed["balance_loss"].get<double>(), 1.05) << strategy;
      EXPECT_NE(skewed["balance_loss"], skewed["sequence_balance_loss"]);
      EXPECT_GT(skewed["z_loss"].get<double>(), 0);
    }
  }
}

TEST(Targets, CountStrictBytesAsDefined) {
  const double both = (2 + 2 * 2) * 72 * 2;  // K = 2, H = 72, bf16
  EXPECT_EQ(run({small_cell("pack", "counting")})[0]["bytes_per_token_strict"], both / 2);
  EXPECT_EQ(run({small_cell("combine", "scalar")})[0]["bytes_per_token_strict"], both / 2);
  EXPECT_EQ(run({small_cell("dispatch", "sort")})[0]["bytes_per_token_strict"], both);
}

TEST(Targets, CountBytesMovedAsTheLayoutMovesThem) {
  constexpr double kRow = 72 * 2, kKept = 37 * 2, kTokens = 37;
  const auto moved = [](const char* bench, const char* impl, Layout layout) {
    Cell cell = small_cell(bench, impl);
    cell.layout = layout;
    const Record record = run({cell})[0];
    EXPECT_TRUE(is_unavailable(record) || record["ok"].get<bool>()) << record.dump();
    return record.value("bytes_moved", 0.0);
  };
  // Every token keeps its two rows, so a compact pack reads and writes each row.
  EXPECT_EQ(moved("pack", "counting", Layout::compact), 2 * kKept * kRow);
  EXPECT_EQ(moved("pack", "fused", Layout::compact), (kTokens + kKept) * kRow);
  EXPECT_GT(moved("pack", "counting", Layout::block), 2 * kKept * kRow);
  EXPECT_EQ(moved("combine", "gather_sum", Layout::compact), (kTokens + kKept) * kRow);
  // Rows in and out, F wide values between, weights of the six experts.
  EXPECT_EQ(moved("experts", "grouped", Layout::compact),
            2 * kKept * kRow + 2 * kKept * 40 * 2 + 6 * 3 * 72 * 40 * 2);
  EXPECT_EQ(moved("layer", "grouped", Layout::compact) - moved("layer", "grouped", Layout::fused),
            2 * kKept * kRow);
  const double padded = moved("experts", "padded", Layout::compact);
  EXPECT_TRUE(padded == 0 || padded > moved("experts", "grouped", Layout::compact));
}

TEST(Targets, FusedLayersNeedNoPackedRows) {
  const auto memory = [](Layout layout) {
    Cell cell = small_cell("layer", "grouped");
    cell.layout = layout;
    return find_target("layer").cost(cell).memory_bytes;
  };
  EXPECT_EQ(memory(Layout::compact) - memory(Layout::fused), 37 * 2 * 72 * 2);
}

TEST(Targets, CapacityDropsLessTheLargerTheFactor) {
  for (const char* routing : {"uniform", "zipf:1.2", "skew:2:3"}) {
    for (const DropPolicy policy : {DropPolicy::position, DropPolicy::probs}) {
      double last = 1;
      for (const double factor : {0.5, 1.0, 2.0, 6.0}) {
        Cell cell = small_cell("capacity", "counting");
        cell.routing = routing;
        cell.drop_policy = policy;
        cell.capacity_factor = factor;
        const Record record = run({cell})[0];
        expect_measured(record);
        const double dropped = record["drop_rate"].get<double>();
        EXPECT_LE(dropped, last);
        EXPECT_GE(dropped, record["token_drop_rate"].get<double>() / 2);  // K = 2
        EXPECT_EQ(dropped == 0, factor >= record["dropless_capacity_factor"].get<double>())
            << record.dump();
        last = dropped;
      }
    }
  }
}

TEST(Targets, CapacityCountsDropsByItself) {
  Context context({.threads = 1, .isa = {}});
  for (const bool ragged : {false, true}) {
    const Routing routing = random_routing(
        {.seed = 3, .tokens = 200, .experts = 8, .top_k = 3, .ragged = ragged, .crowded = 1});
    for (const DropPolicy policy : {DropPolicy::position, DropPolicy::probs}) {
      PlanOptions options = {.capacity_factor = 0.4, .drop_policy = policy};
      DispatchPlan plan;
      make_plan(context, routing, options, plan);
      EXPECT_NO_THROW(check_drops(routing, options, plan));
      DispatchPlan other = plan;
      *std::ranges::find(other.row_of_assignment, 0) = -1;
      EXPECT_THROW(check_drops(routing, options, other), Error);
      options.capacity_factor = 0.5;
      EXPECT_THROW(check_drops(routing, options, plan), Error);
      options.capacity_factor = 0;
      EXPECT_THROW(check_drops(routing, options, plan), Error);
    }
  }
}

TEST(Targets, FusedPackingAgreesInEveryLayout) {
  for (const char* bench : {"pack", "dispatch"}) {
    for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block}) {
      Cell cell = small_cell(bench, "fused");
      cell.tokens = 1000;
      cell.top_k = cell.router.top_k = 5;
      cell.layout = layout;
      for (const double factor : {0.0, 0.7}) {
        cell.capacity_factor = factor;
        const Record record = run({cell})[0];
        expect_measured(record);
        EXPECT_FALSE(record.contains("t_plan_ms"));
      }
    }
  }
}

TEST(Targets, AtomicRowsAreCheckedInAnyOrder) {
  for (const char* bench : {"pack", "perm", "dispatch"}) {
    Cell cell = small_cell(bench, "atomic");
    cell.tokens = 6000;  // enough for a range of tokens per thread
    cell.hidden = 8;
    Record record = run({cell})[0];
    expect_measured(record);
    EXPECT_EQ(record["deterministic"], false);
    cell.capacity_factor = 0.7;
    record = run({cell})[0];
    EXPECT_EQ(record["error_code"], "invalid_argument") << record.dump();
    cell.drop_policy = DropPolicy::probs;
    expect_measured(run({cell})[0]);
  }
}

TEST(Targets, CountFlopsOfKeptRowsOnly) {
  const Record record = run({small_cell("experts", "grouped")})[0];
  EXPECT_EQ(record["flops"], 2.0 * 3 * 37 * 2 * 72 * 40);
  Cell plain = small_cell("experts", "grouped");
  plain.gated = false;
  plain.activation = Activation::gelu;
  EXPECT_EQ(run({plain})[0]["flops"], 2.0 * 2 * 37 * 2 * 72 * 40);
}

TEST(Targets, RefuseWhatDoesNotFitBeforeTheyAllocate) {
  for (const Target& target : targets()) {
    Cell cell = small_cell(target.name, target.implementations[0]);
    cell.tokens = std::int64_t{1} << 30;
    cell.hidden = std::int64_t{1} << 20;
    cell.experts = 1024;
    const CellCost cost = target.cost(cell);
    EXPECT_GT(cost.memory_bytes, std::int64_t{1} << 40) << target.name;
    const Record record = run({cell})[0];
    EXPECT_FALSE(record["ok"].get<bool>());
    EXPECT_NE(record["error"].get<std::string>().find("needs"), std::string::npos) << record.dump();
    EXPECT_FALSE(record.contains("median_ms"));
  }
}

TEST(Targets, FailTheCellsOfASourceThatIsWrong) {
  for (const char* routing : {"nonsense", "zipf:x", "trace:/no/such/file.jsonl"}) {
    Cell cell = small_cell("layer", "grouped");
    cell.routing = routing;
    const Record record = run({cell})[0];
    EXPECT_FALSE(record["ok"].get<bool>());
    EXPECT_FALSE(record["error"].get<std::string>().empty());
  }
}

TEST(Targets, StopWhenAsked) {
  const std::vector<Cell> cells = {small_cell("layer", "grouped")};
  WeightCache weights;
  const auto records =
      find_target("layer").run(cells, kQuick, some_ceilings(), weights, [] { return true; });
  EXPECT_FALSE(records[0]["ok"].get<bool>());
  EXPECT_FALSE(records[0].contains("median_ms"));
}

TEST(Targets, AreFoundByName) {
  EXPECT_EQ(find_target("pack").name, "pack");
  EXPECT_THROW(find_target("packs"), Error);
}

}  // namespace
}  // namespace switchyard
