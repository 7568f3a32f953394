// Whole layers against tests/goldens/layer.json, which tools/make_layer_golden.py wrote with NumPy.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "layer/layer_testing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using nlohmann::json;
using testing::Tensor;

class Golden {
 public:
  Golden(const json& record, DType dtype) : record_(record), dtype_(dtype) {}

  std::int64_t size(const char* name) const { return record_.at(name).get<std::int64_t>(); }

  Tensor tensor(const char* name, std::int64_t cols) const {
    const auto integers = record_.at(name).get<std::vector<int>>();
    Tensor out(dtype_, std::ssize(integers) / cols, cols);
    for (std::int64_t i = 0; i < std::ssize(integers); ++i) {
      const int value = integers[static_cast<std::size_t>(i)];
      out.set(i / cols, i % cols, static_cast<float>(value) / static_cast<float>(size("scale")));
    }
    return out;
  }

 private:
  const json& record_;
  DType dtype_;
};

json goldens() {
  std::ifstream in(SWITCHYARD_SOURCE_DIR "/tests/goldens/layer.json");
  return json::parse(in);
}

void check(const json& record, DType dtype, std::string_view implementation) {
  SCOPED_TRACE(record.at("name").get<std::string>() + " " + std::string(name_of(dtype)) + " " +
               std::string(implementation));
  const Golden golden(record, dtype);
  const std::int64_t hidden = golden.size("hidden"), ffn = golden.size("ffn");
  const std::int64_t experts = golden.size("experts"), tokens = golden.size("tokens");
  const bool gated = record.at("gated").get<bool>();
  const Activation activation = activation_from_name(record.at("activation").get<std::string>());

  const Tensor none(dtype, 0, hidden);
  const auto gate = gated ? golden.tensor("gate", hidden) : none;
  const auto up = golden.tensor("up", hidden), down = golden.tensor("down", ffn);
  const Tensor router = golden.tensor("router", hidden), x = golden.tensor("x", hidden);
  LayerWeights weights;
  weights.router = router.view();
  weights.experts = {{}, up.matrices(experts), down.matrices(experts), activation};
  if (gated) weights.experts.gate = gate.matrices(experts);

  const bool has_shared = record.contains("shared_up");
  const auto shared = [&](const char* name, std::int64_t cols) {
    return has_shared ? golden.tensor(name, cols) : none;
  };
  const Tensor shared_gate = shared("shared_gate", hidden), shared_up = shared("shared_up", hidden);
  const Tensor shared_down = shared("shared_down", ffn + 1);
  const Tensor shared_gate_vector = shared("shared_gate_vector", hidden);
  if (has_shared) {
    weights.shared = {shared_gate.matrices(1), shared_up.matrices(1), shared_down.matrices(1),
                      activation};
    weights.shared_gate = shared_gate_vector.view();
  }

  LayerConfig config;
  config.strategy = StrategyRegistry::builtin().find("topk_softmax");
  config.router.top_k = static_cast<int>(golden.size("top_k"));
  config.router.norm_topk = record.at("norm_topk").get<bool>();
  config.implementation = implementation;
  config.dtype = dtype;
  Context context({.threads = 2, .isa = {}});
  Tensor out(dtype, tokens, hidden);
  try {
    MoeLayer layer(context, config, weights);
    layer.forward(context, x.view(), out.view());
    EXPECT_EQ(layer.routing().expert, record.at("chosen").get<std::vector<std::int32_t>>());
  } catch (const Error& e) {
    if (e.code() != ErrorCode::unavailable) throw;
    return;
  }
  EXPECT_LE(relative_error(out.view(), record.at("out").get<std::vector<double>>(), {}),
            layer_tolerance(dtype, dtype, hidden, ffn));
}

TEST(LayerGolden, MatchesNumPy) {
  const json records = goldens();
  ASSERT_GE(records.size(), 5u);
  for (const json& record : records) {
    for (const std::string_view implementation : expert_implementations()) {
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        check(record, dtype, implementation);
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
