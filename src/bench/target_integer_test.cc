// Integer weights in the targets that take them.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "bench/target_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::expect_measured;
using testing::is_unavailable;
using testing::run;
using testing::small_cell;

Cell integer_cell(std::string_view bench, std::string_view impl, std::string_view weights) {
  Cell cell = small_cell(bench, impl);
  cell.weights = weight_format_from_name(weights);
  cell.quant.format = *cell.weights.quant;
  return cell;
}

class IntegerTargets
    : public ::testing::TestWithParam<std::tuple<std::string_view, std::string_view>> {
 protected:
  Cell cell(std::string_view impl) const {
    return integer_cell(std::get<0>(GetParam()), impl, std::get<1>(GetParam()));
  }
};

TEST_P(IntegerTargets, MeasureEveryLayoutAndOption) {
  for (const Layout layout : {Layout::compact, Layout::fused}) {
    Cell in_layout = cell("grouped");
    in_layout.layout = layout;
    in_layout.quant.group = 64;
    in_layout.quant.zero_points = in_layout.quant.format == QuantFormat::int4;
    in_layout.quant.search = ScaleSearch::mse;
    const Record record = run({in_layout})[0];
    expect_measured(record);
    EXPECT_EQ(record["weights"], name_of(in_layout.weights));
    EXPECT_EQ(record["scale_search"], "mse");
    EXPECT_EQ(record.contains("quant_group"), in_layout.quant.format == QuantFormat::int4);
    EXPECT_LT(record["weight_bytes"].get<double>(), 6 * 3 * 72 * 40 * 1.2);
  }
  Cell dropping = cell("grouped");
  dropping.capacity_factor = 0.7;
  dropping.routing = "gate";
  expect_measured(run({dropping})[0]);
}

TEST_P(IntegerTargets, MeasureEveryImplementationThatTakesThem) {
  std::vector<Cell> cells;
  for (const char* impl : {"loop", "grouped", "padded", "capacity", "block"}) {
    cells.push_back(cell(impl));
  }
  for (const Record& record : run(cells)) expect_measured(record);
  const Record refused = run({cell("masked_matmul")})[0];
  EXPECT_EQ(refused["error_code"], "unavailable");
  EXPECT_NE(refused["error"].get<std::string>().find("integer"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, IntegerTargets,
                         ::testing::Combine(::testing::Values("experts", "layer"),
                                            ::testing::Values("int8", "int4")),
                         [](const auto& test) {
                           return fmt::format("{}_{}", std::get<0>(test.param),
                                              std::get<1>(test.param));
                         });

TEST(Targets, MeasureLayersThatMixWithIntegers) {
  for (const char* weights : {"int8", "int4"}) {
    std::vector<Cell> cells;
    for (const char* impl : {"grouped", "loop"}) {
      cells.push_back(integer_cell("layer", impl, weights));
      cells.back().strategy = "soft_moe";
      cells.back().router.slots_per_expert = 5;
    }
    for (const Record& record : run(cells)) {
      if (is_unavailable(record)) continue;
      EXPECT_TRUE(record["ok"].get<bool>()) << record.dump();
      EXPECT_EQ(record["weights"], weights);
    }
  }
}

TEST(Targets, RefuseUnknownWeights) { EXPECT_THROW(weight_format_from_name("int5"), Error); }

}  // namespace
}  // namespace switchyard
