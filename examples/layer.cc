// Routes and runs one MoE layer on buffers of its own, through the public headers alone.
//
//   c++ -std=c++20 layer.cc $(pkg-config --cflags --libs switchyard)

#include <switchyard/switchyard.h>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  using namespace switchyard;

  // T=3 tokens of H=2, E=2 experts of F=2, each token to K=1 of them.
  const std::vector<float> x = {1, 2, 3, -1, -2, 4};
  const std::vector<float> router = {1, 0, 0, 1};  // expert 0 likes x0, expert 1 likes x1
  // Expert 0 computes relu(x), expert 1 computes -2 relu(x).
  const std::vector<float> up = {1, 0, 0, 1, 1, 0, 0, 1};
  const std::vector<float> down = {1, 0, 0, 1, -2, 0, 0, -2};

  LayerWeights weights;
  weights.router = matrix(router.data(), 2, 2);
  weights.experts.up = matrices(up.data(), 2, 2, 2);
  weights.experts.down = matrices(down.data(), 2, 2, 2);
  weights.experts.activation = Activation::relu;

  LayerConfig config;
  config.strategy = StrategyRegistry::builtin().find("topk_softmax");
  config.router.top_k = 1;  // and norm_topk, so that the one weight is 1

  try {
    Context context;
    MoeLayer layer(context, config, weights);
    std::vector<float> out(x.size());
    StageTimes times;
    layer.forward(context, matrix(x.data(), 3, 2), matrix(out.data(), 3, 2), &times);

    for (std::size_t t = 0; t < 3; ++t) {
      std::printf("token %zu (%4.1f %4.1f) -> expert %d -> (%4.1f %4.1f)\n", t, x[2 * t],
                  x[2 * t + 1], layer.routing().expert[t], out[2 * t], out[2 * t + 1]);
    }
    const LoadStats load = load_stats(layer.plan().expert_rows);
    std::printf("max/mean load %.2f, experts by %s: %.3f ms\n", load.max_over_mean,
                layer.experts().kernel().c_str(), times.experts);

    const std::vector<float> by_hand = {-2, -4, 3, 0, 0, -8};
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (std::fabs(out[i] - by_hand[i]) > 1e-5f) {
        std::printf("element %zu is %g: expected %g\n", i, out[i], by_hand[i]);
        return 1;
      }
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
