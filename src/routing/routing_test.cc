#include "switchyard/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/philox.h"

namespace switchyard {
namespace {

TEST(Routing, BuiltinsRoute) {
  Context context({.threads = 2, .isa = {}});
  const Philox random(1, 2);
  std::vector<float> x(100 * 32);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = random.normal(i);
  for (const Strategy& s : StrategyRegistry::builtin().all()) {
    Routing routing;
    route(context, s, {matrix(static_cast<const float*>(x.data()), 100, 32), {}, {}}, {.top_k = 4},
          routing);
    validate(routing);
    EXPECT_NEAR(std::accumulate(routing.weight.begin(), routing.weight.end(), 0.0),
                s.name == "top1" ? 20 : 100, s.name == "top1" ? 15 : 0.001)
        << s.name;
  }
}

}  // namespace
}  // namespace switchyard
