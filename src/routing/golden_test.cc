#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <tuple>

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
  params.choice_capacity = json.value("choice_capacity", params.choice_capacity);
  params.noise_std = json.value("noise_std", params.noise_std);
  params.slots_per_expert = json.value("slots_per_expert", params.slots_per_expert);
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

Json golden_of(const Strategy& strategy) {
  const auto path = std::filesystem::path(SWITCHYARD_SOURCE_DIR) / "tests/goldens" /
                    ("routing_" + strategy.name + ".json");
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path << " is missing: run tools/make_goldens.py";
  return Json::parse(file);
}

template <class Values>
void expect_near(const Values& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], kWeightTol) << i;
  }
}

TEST(RoutingGoldens, StrategiesThatMixMatchThem) {
  Context context({.threads = 1, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    if (!strategy.is_soft()) continue;
    const Json golden = golden_of(strategy);
    const auto logits = flat<float>(golden.at("logits"));
    const auto num_tokens = static_cast<std::int64_t>(golden.at("logits").size());
    const RouterInput input{
        matrix(logits.data(), num_tokens, std::ssize(logits) / num_tokens), {}, {}};
    for (const Json& expected : golden.at("cases")) {
      SoftRouting fast;
      route_soft(context, strategy, input, params_of(expected.at("params")), fast);
      const auto reference = reference_route_soft(strategy.name, input.logits);
      for (const auto& [name, values, wide] :
           {std::tuple{"dispatch", fast.dispatch, reference.dispatch},
            std::tuple{"combine", fast.combine, reference.combine}}) {
        expect_near(values, flat<double>(expected.at(name)));
        expect_near(wide, flat<double>(expected.at(name)));
      }
    }
  }
}

TEST(RoutingGoldens, EveryStrategyHasOneAndMatchesIt) {
  Context context({.threads = 1, .isa = {}});
  const StrategyRegistry registry = StrategyRegistry::builtin();
  for (const Strategy& strategy : registry.all()) {
    if (strategy.is_soft()) continue;
    const Json golden = golden_of(strategy);
    const auto logits = flat<float>(golden.at("logits"));
    const auto bias = golden.at("bias").get<std::vector<float>>();
    const auto ids = golden.at("token_ids").get<std::vector<std::int64_t>>();
    RouterInput input{matrix(logits.data(), std::ssize(ids), std::ssize(bias)), bias, ids};
    const auto noise = flat<float>(golden.value("noise_logits", Json::array()));
    for (const Json& expected : golden.at("cases")) {
      const RouterParams params = params_of(expected.at("params"));
      const Routing routing = routing_of(expected, static_cast<int>(bias.size()));
      input.noise_logits = {};
      if (expected.value("with_noise_logits", false)) {
        input.noise_logits = matrix(noise.data(), std::ssize(ids), std::ssize(bias));
      }
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
