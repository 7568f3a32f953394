#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "routing/noise.h"
#include "routing/select.h"

// h = x + n * std with n standard normal, std = softplus(noise_logits) where a second router gives
// them and noise_std where none does; the K largest h, weights softmax over them. For training: the
// noise spreads tokens over experts that are nearly as good. noise_std = 0 is topk_softmax.
// Shazeer et al. 2017, arXiv 1701.06538, equations 3 to 5.
//
// n[t, e] is drawn by (seed, t, e) alone: words of Philox block t in stream e / 4, Box and Muller,
// angle and radius from one pair of words, cosine for the even expert, sine for the odd one. Noise
// is computed in double and h rounded once, so that it does not depend on how f32 rounds.

namespace switchyard {
namespace {

/// `noise_logits` is null where noise_std counts.
void add_noise(const float* x, const float* noise_logits, const RouterParams& params,
               std::int64_t token, int num_experts, float* noisy) noexcept {
  for (int e = 0; e < num_experts; e += 4) {
    double normal[4];
    noise::draw_normals(params.seed, token, e / 4, normal);
    for (int i = e; i < std::min(e + 4, num_experts); ++i) {
      const double std =
          noise_logits != nullptr ? noise::softplus(noise_logits[i]) : params.noise_std;
      noisy[i] = noise::add_to(x[i], normal[i - e] * std);
    }
  }
}

const float* noise_of(const RouterInput& input, std::int64_t token) noexcept {
  if (input.noise_logits.data == nullptr) return nullptr;
  return reinterpret_cast<const float*>(input.noise_logits.row(token));
}

void check_noise(const RouterInput& input) {
  if (input.noise_logits.data == nullptr) return;
  for (std::int64_t t = 0; t < input.logits.rows; ++t) {
    const float* noise = noise_of(input, t);
    for (std::int64_t e = 0; e < input.logits.cols; ++e) {
      require(std::isfinite(noise[e]),
              "noise_logits[token {}, expert {}] is {}: expected a finite number", t, e, noise[e]);
    }
  }
}

void route_noisy_topk(Context& context, const RouterInput& input, const RouterParams& params,
                      Routing& routing) {
  constexpr int kRows = 16;  // of noisy logits, which then stay in L1 or L2
  const int k = params.top_k, num_experts = static_cast<int>(input.logits.cols);
  check_noise(input);
  shape_top_k(input, k, routing);
  Arena::Scope scope(arena_of(context));
  const std::int64_t block_size = std::int64_t{kRows} * num_experts;
  const auto blocks = scope.take<float>(context.threads() * block_size);
  const TopkKernel topk = topk_variant(context.isa()).topk;
  FirstBad bad;
  pool_of(context).for_ranges(
      input.logits.rows, kRows, [&](std::int64_t begin, std::int64_t end, int thread) {
        float* noisy = blocks.data() + thread * block_size;
        for (std::int64_t t = begin; t < end; t += kRows) {
          const int count = static_cast<int>(std::min<std::int64_t>(kRows, end - t));
          for (int row = 0; row < count; ++row) {
            add_noise(logits_of(input, t + row), noise_of(input, t + row), params, t + row,
                      num_experts, noisy + std::int64_t{row} * num_experts);
          }
          const RouterInput block_input{matrix(noisy, count, num_experts), {}, {}};
          float max[kRows];
          Block block{0,
                      count,
                      k,
                      routing.expert.data() + t * k,
                      routing.weight.data() + t * k,
                      max,
                      nullptr,
                      &kShareOfOne};
          const std::int64_t row = select_block(topk, block_input, 1.0f, block, max, nullptr);
          if (row >= 0) return bad.note(t + row);
        }
      });
  bad.throw_if_any(input);
}

}  // namespace

Strategy noisy_topk_strategy() {
  return {.name = "noisy_topk",
          .summary =
              "the K largest logits after Gaussian noise of std softplus(noise_logits), or "
              "noise_std; weights softmax over them",
          .source = "Shazeer et al. 2017, arXiv 1701.06538",
          .causal = true,
          .route = route_noisy_topk,
          .knobs = "top_k, noise_std, seed"};
}

}  // namespace switchyard
