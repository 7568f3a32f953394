// A program outside the project: it sees the installed headers and library only. One expert
// doubles, one negates, and the router sends positive tokens to the first and negative ones to the
// second.
#include <switchyard/switchyard.h>

#include <cstdio>
#include <string>
#include <vector>

namespace {

// y = down(relu(up(x))) with up = (1, -1) and down = (s, -s) is s * x.
const std::vector<float> kUp = {1, -1, 1, -1};
const std::vector<float> kDown = {2, -2, -1, 1};
const std::vector<float> kRouter = {1, -1};  // x > 0: expert 0

std::vector<float> run(switchyard::Context& context, const std::string& implementation) {
  using switchyard::matrices;
  using switchyard::matrix;
  const auto strategies = switchyard::StrategyRegistry::builtin();
  switchyard::LayerConfig config{.strategy = strategies.find("topk_softmax"),
                                 .router = {.top_k = 1},
                                 .implementation = implementation};
  switchyard::LayerWeights weights;
  weights.router = matrix(kRouter.data(), 2, 1);
  weights.experts.up = matrices(kUp.data(), 2, 2, 1);
  weights.experts.down = matrices(kDown.data(), 2, 1, 2);
  weights.experts.activation = switchyard::Activation::relu;
  switchyard::MoeLayer layer(context, config, weights);

  const std::vector<float> x = {3, -5};
  std::vector<float> out(2);
  layer.forward(context, matrix(x.data(), 2, 1), matrix(out.data(), 2, 1));
  return out;
}

}  // namespace

int main() {
  switchyard::Context context({.threads = 2});
  std::printf("switchyard %s\n", std::string(switchyard::version()).c_str());
  for (const std::string implementation : {"grouped", "loop"}) {
    try {
      const std::vector<float> out = run(context, implementation);
      std::printf("%s: %g %g\n", implementation.c_str(), out[0], out[1]);
      if (out != std::vector<float>{6, 5}) return 1;
    } catch (const switchyard::Error& error) {
      if (error.code() != switchyard::ErrorCode::unavailable) throw;
      std::printf("%s: %s\n", implementation.c_str(), error.what());
    }
  }
}
