// Every target that runs on a device, measured as the command does: on a GPU, or emulated.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "bench/identity.h"
#include "bench/record.h"
#include "bench/target.h"
#include "bench/weight_cache.h"
#include "cuda/device_testing.h"

namespace switchyard {
namespace {

Context make_device_context(const Cell&) { return std::move(*cuda::device_context()); }

constexpr RunOptions kQuick = {
    .warmup = 0, .iters = 2, .cold = false, .make_context = make_device_context};

Ceilings some_ceilings(const std::string& isa) {
  Ceilings c;
  c.read_bw = c.copy_bw = c.gather_bw = 4e12;
  c.launch_s = 3e-6;
  c.graph_launch_s = 1e-6;
  for (const char* dtype : {"bf16", "f16", "f32"}) c.peak_flops[isa + "/" + dtype] = 8e14;
  return c;
}

class DeviceTargets : public cuda::DeviceTest {
 protected:
  static Cell small_cell(std::string_view bench, std::string_view impl) {
    Cell cell;
    cell.bench = bench;
    cell.impl = impl;
    cell.device = Device::cuda;
    cell.threads = 1;
    cell.tokens = 21;
    cell.hidden = 40;
    cell.ffn = 24;
    cell.experts = 6;
    cell.top_k = cell.router.top_k = 2;
    return cell;
  }

  std::vector<Record> run(const std::vector<Cell>& cells, const RunOptions& options = kQuick) {
    const auto& gpu = cuda::gpu_of(*context_).info();
    WeightCache weights;
    return find_target(cells[0].bench)
        .run(cells, options, some_ceilings("sm_" + std::to_string(10 * gpu.major + gpu.minor)),
             weights, [] { return false; });
  }

  /// cuBLAS is not emulated.
  static bool is_unavailable(const Record& record) {
    const std::string impl = record["impl"];
    return cuda::is_emulated() && (impl == "loop" || impl == "library" || impl == "padded") &&
           record.value("error_code", "") == "unavailable";
  }

  static void expect_measured(const Record& record) {
    SCOPED_TRACE(record.dump());
    if (is_unavailable(record)) return;
    ASSERT_TRUE(record["ok"].get<bool>());
    EXPECT_EQ(record["device"], "cuda");
    EXPECT_EQ(record["samples_ms"].size(), 2u);
    EXPECT_LE(record["check_rel_err"].get<double>(), record["check_tol"].get<double>());
    EXPECT_EQ(record["isa"].get<std::string>().rfind("sm_", 0), 0u);
    for (const char* field : {"gpu", "graph", "launch_us", "bytes", "limit_ms", "limit_kind",
                              "fraction_of_limit", "load_cv", "experts_active", "memory_bytes"}) {
      EXPECT_TRUE(record.contains(field)) << field;
    }
  }
};

TEST_F(DeviceTargets, MeasureEveryImplementation) {
  for (const Target& target : targets()) {
    std::vector<Cell> cells;
    for (const auto impl : target.device_implementations) {
      cells.push_back(small_cell(target.name, impl));
    }
    if (cells.empty()) continue;
    const auto records = run(cells);
    ASSERT_EQ(records.size(), cells.size());
    for (std::size_t i = 0; i < records.size(); ++i) {
      expect_measured(records[i]);
      EXPECT_EQ(cell_line(records[i]), cell_line(target.identity(cells[i], kQuick)));
    }
  }
}

TEST_F(DeviceTargets, ReplayWhatCanBeCapturedAndTimeItsStages) {
  const Record router = run({small_cell("router", "fused_select")})[0];
  expect_measured(router);
  EXPECT_EQ(router["graph"], true);
  EXPECT_EQ(router["launch_us"], 1.0);
  double parts = 0;
  for (const char* field : {"t_logit_ms", "t_select_ms", "t_pack_ms"}) {
    ASSERT_TRUE(router.contains(field)) << field;
    EXPECT_GE(router[field].get<double>(), 0) << field;
    parts += router[field].get<double>();
  }
  EXPECT_GE(router["t_route_ms"].get<double>(), 0.5 * parts);
  const Record layer = run({small_cell("layer", "grouped")})[0];
  expect_measured(layer);
  EXPECT_EQ(layer["graph"], true);
  for (const char* field :
       {"t_logit_ms", "t_select_ms", "t_plan_ms", "t_experts_ms", "routing_share"}) {
    EXPECT_TRUE(layer.contains(field)) << field;
  }
}

TEST_F(DeviceTargets, MeasureEveryRoutingSource) {
  for (const char* bench : {"topk", "router", "pack", "layer"}) {
    for (const char* routing : {"zipf:1.2", "skew:2:3", "gate"}) {
      Cell cell = small_cell(bench, find_target(bench).device_implementations[0]);
      cell.routing = routing;
      expect_measured(run({cell})[0]);
    }
  }
}

TEST_F(DeviceTargets, MeasureEveryLayout) {
  for (const char* bench : {"pack", "combine", "dispatch", "experts", "layer"}) {
    for (const Layout layout : {Layout::capacity, Layout::block, Layout::fused}) {
      Cell cell = small_cell(bench, find_target(bench).device_implementations[0]);
      cell.layout = layout;
      if (layout == Layout::capacity) cell.capacity_factor = 1.5;
      expect_measured(run({cell})[0]);
    }
  }
}

TEST_F(DeviceTargets, MeasureF16AndInt4) {
  Cell cell = small_cell("experts", "grouped");
  cell.dtype = cell.weights.dtype = DType::f16;
  expect_measured(run({cell})[0]);
  cell = small_cell("experts", "grouped");
  cell.weights = weight_format_from_name("int4");
  cell.quant.format = *cell.weights.quant;
  const Record record = run({cell})[0];
  expect_measured(record);
  EXPECT_EQ(record["weights"], "int4");
}

TEST_F(DeviceTargets, EmptyL2BeforeColdSamples) {
  RunOptions cold = kQuick;
  cold.cold = true;
  const Record record = run({small_cell("pack", "counting")}, cold)[0];
  expect_measured(record);
  EXPECT_EQ(record["cold"], true);
}

TEST_F(DeviceTargets, MeasureEveryRouter) {
  for (const RouterArch arch : {RouterArch::mlp, RouterArch::mlp_hadamard}) {
    std::vector<Cell> cells = {small_cell("router", "fused_select"),
                               small_cell("layer", "grouped")};
    for (Cell& cell : cells) {
      cell.routing = "gate";
      cell.router_arch = arch;
      expect_measured(run({cell})[0]);
    }
  }
}

TEST_F(DeviceTargets, SayWhatDoesNotRunThere) {
  Cell soft = small_cell("layer", "grouped");
  soft.strategy = "soft_moe";
  const Record record = run({soft})[0];
  EXPECT_FALSE(record["ok"].get<bool>());
  EXPECT_EQ(record["error_code"], "unavailable") << record.dump();
  EXPECT_FALSE(record.contains("median_ms"));
  try {
    implementations_of(find_target("capacity"), Device::cuda);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("bench capacity does not run on device cuda"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace switchyard
