// A routing strategy from outside the library: each token takes the two experts nearest to its
// argmax, on a ring, so that its work stays between neighbours. Uses the public headers only.

#include <cstdio>
#include <exception>
#include <vector>

#include "switchyard/switchyard.h"

namespace {

using namespace switchyard;

int argmax(const float* x, int count) {
  int best = 0;
  for (int e = 1; e < count; ++e) {
    if (x[e] > x[best]) best = e;
  }
  return best;
}

// route() has validated the shapes and the parameters before it calls this.
void route_ring(Context&, const RouterInput& input, const RouterParams&, Routing& routing) {
  const int num_experts = static_cast<int>(input.logits.cols);
  const int per_token = num_experts > 1 ? 2 : 1;
  routing.num_tokens = input.logits.rows;
  routing.num_experts = num_experts;
  routing.token_begin.assign(1, 0);
  routing.expert.clear();
  routing.weight.clear();
  for (std::int64_t t = 0; t < input.logits.rows; ++t) {
    const int best = argmax(reinterpret_cast<const float*>(input.logits.row(t)), num_experts);
    for (int i = 0; i < per_token; ++i) {
      routing.expert.push_back((best + i) % num_experts);
      routing.weight.push_back(1.0f / static_cast<float>(per_token));
    }
    routing.token_begin.push_back(routing.num_assignments());
  }
}

int run() {
  StrategyRegistry registry = StrategyRegistry::builtin();
  registry.add({.name = "ring",
                .summary = "the best expert and its neighbour, weights 1/2",
                .source = "examples/custom_strategy.cc",
                .causal = true,
                .route = route_ring});

  const std::vector<float> logits = {0, 3, 1, 2,  //
                                     1, 0, 2, 5,  //
                                     4, 0, 0, 0};
  Context context;
  Routing routing;
  route(context, registry.find("ring"), {matrix(logits.data(), 3, 4), {}, {}}, {}, routing);
  validate(routing);

  for (std::int64_t t = 0; t < routing.num_tokens; ++t) {
    std::printf("token %d:", static_cast<int>(t));
    for (auto a = routing.token_begin[static_cast<std::size_t>(t)];
         a < routing.token_begin[static_cast<std::size_t>(t) + 1]; ++a) {
      std::printf(" expert %d (%.2f)", routing.expert[static_cast<std::size_t>(a)],
                  static_cast<double>(routing.weight[static_cast<std::size_t>(a)]));
    }
    std::printf("\n");
  }
  const std::vector<std::int32_t> expected = {1, 2, 3, 0, 0, 1};
  if (routing.expert != expected) {
    std::fprintf(stderr, "the routing is not what the rule says\n");
    return 1;
  }
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
