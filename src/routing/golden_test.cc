#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "routing/routing_reference.h"

// tests/goldens/routing_<strategy>.json, written by tools/make_goldens.py (NumPy).

namespace switchyard {
namespace {

using Json = nlohmann::json;

template <class T>
std::vector<T> flat(const Json& rows) {
  std::vector<T> out;
  for (const Json& row : rows) {
    for (const Json& value : row) out.push_back(value.get<T>());
  }
  return out;
}

RouterParams params_of(const Json& json) {
  RouterParams params;
  params.top_k = json.at("top_k");
  params.norm_topk = json.at("norm_topk");
  params.temperature = json.at("temperature");
  params.n_group = json.at("n_group");
  params.topk_group = json.at("topk_group");
  params.routed_scaling_factor = json.at("routed_scaling_factor");
  params.seed = json.at("seed");
  params.sinkhorn_iters = json.value("sinkhorn_iters", params.sinkhorn_iters);
  return params;
}

Routing routing_of(const Json& json, int num_experts) {
  Routing routing;
  routing.num_tokens = static_cast<std::int64_t>(json.at("expert").size());
  routing.num_experts = num_experts;
  routing.token_begin.push_back(0);
  for (const Json& row : json.at("expert")) {
    routing.token_begin.push_back(routing.token_begin.back() +
                                  static_cast<std::int64_t>(row.size()));
  }
  routing.expert = flat<std::int32_t>(json.at("expert"));
  routing.weight = flat<float>(json.at("weight"));
  return routing;
}

// Goldens are rounded to nine decimals; the smallest of the largest weights is about 0.1.
constexpr double kWeightTol = 32 * 0x1p-23;

TEST(RoutingGoldens, EveryStrategyHasOneAndMatchesIt) {
  Context context({.threads = 1, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    const auto path = std::filesystem::path(SWITCHYARD_SOURCE_DIR) / "tests/goldens" /
                      ("routing_" + strategy.name + ".json");
    std::ifstream file(path);
    ASSERT_TRUE(file.is_open()) << path << " is missing: run tools/make_goldens.py";
    const Json golden = Json::parse(file);
    const auto logits = flat<float>(golden.at("logits"));
    const auto bias = golden.at("bias").get<std::vector<float>>();
    const auto ids = golden.at("token_ids").get<std::vector<std::int64_t>>();
    const RouterInput input{matrix(logits.data(), static_cast<std::int64_t>(ids.size()),
                                   static_cast<std::int64_t>(bias.size())),
                            bias, ids};
    for (const Json& expected : golden.at("cases")) {
      const RouterParams params = params_of(expected.at("params"));
      const Routing routing = routing_of(expected, static_cast<int>(bias.size()));
      Routing fast;
      route(context, strategy, input, params, fast);
      EXPECT_EQ(first_difference(fast, routing, kWeightTol), "") << expected.at("params");
      EXPECT_EQ(
          first_difference(reference_route(strategy.name, input, params), routing, kWeightTol), "")
          << expected.at("params");
    }
  }
}

}  // namespace
}  // namespace switchyard
