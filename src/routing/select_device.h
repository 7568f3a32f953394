#pragma once

#include <cstdint>

// What the selection on a device is told to do, and with what.

namespace switchyard {

namespace cuda {
class Gpu;
}

namespace select_cuda {

inline constexpr int kMaxExperts = 1024;
inline constexpr int kMaxTopK = 16;
inline constexpr int kChunkTokens = 32;
// The scores of infinite logits where a bias is added, see sigmoid_bias.cc.
inline constexpr float kForcedScore = 3e38f;
inline constexpr float kMaskedScore = -1e38f;

enum class SelectWeights {
  over_all,     ///< softmax over all experts
  over_chosen,  ///< softmax over the chosen, or the chosen's sigmoids, as `normalise` says
  uniform,      ///< `factor`
};

/// How a strategy chooses and weighs.
struct SelectRule {
  int k = 0;
  bool is_sigmoid = false;  ///< scores are sigmoid(x) + bias rather than x
  bool best_two = false;    ///< a group scores the sum of its best two
  int groups = 1, groups_kept = 1;
  SelectWeights weights = SelectWeights::over_chosen;
  bool normalise = false;  ///< divide by the chosen weights' sum + epsilon
  float epsilon = 0;
  float scale = 1;  ///< of logits, less the largest, before exp
  float factor = 1;
  std::uint32_t draws =
      0;  ///< the purpose of draw.h by which experts are drawn, 0: they are chosen
  std::uint64_t seed = 0;
  bool by_position = false;  ///< token ids do not matter
};

struct SelectArgs {
  const float* logits;      ///< [T, E]
  std::int64_t row_stride;  ///< elements
  std::int64_t num_tokens;
  int num_experts;
  const float* bias;              ///< [E], or null
  const std::int64_t* token_ids;  ///< [T], or null: positions are drawn by
  SelectRule rule;
  std::int64_t* token_begin;         ///< [T+1]
  std::int32_t* expert;              ///< [T, K]
  float* weight;                     ///< [T, K]
  std::int32_t* bad_token_of_chunk;  ///< [chunks]
  std::int32_t* count_of_chunk;      ///< [chunks, E]
};

/// h = logits + noise, see noisy_topk.cc; NaN where a noise logit is not finite.
struct NoiseArgs {
  const float* logits;      ///< [T, E]
  std::int64_t row_stride;  ///< elements
  const float* noise;       ///< [T, E] noise_logits, or null: noise_std counts
  std::int64_t noise_stride;
  float noise_std;
  std::uint64_t seed;
  std::int64_t num_tokens;
  int num_experts;
  float* noisy;  ///< [T, E], dense
};

/// One launch each.
void add_noise_on_device(cuda::Gpu& gpu, const NoiseArgs& args);
void select_on_device(cuda::Gpu& gpu, const SelectArgs& args);

}  // namespace select_cuda
}  // namespace switchyard
