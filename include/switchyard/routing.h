#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/context.h"
#include "switchyard/view.h"

namespace switchyard {

/// Who: for each token its experts and their weights, ragged by token, so that expert choice fits
/// as well as top-k. Token t owns assignments [token_begin[t], token_begin[t+1]).
struct Routing {
  std::int64_t num_tokens = 0;            ///< T
  int num_experts = 0;                    ///< E
  std::vector<std::int64_t> token_begin;  ///< [T+1]
  std::vector<std::int32_t> expert;       ///< [A], each in [0, E), distinct within a token
  std::vector<float> weight;              ///< [A], finite

  std::int64_t num_assignments() const noexcept { return static_cast<std::int64_t>(expert.size()); }
};

/// Throws Error(invalid_argument) naming the first token or assignment that breaks the contract.
void validate(const Routing& routing);

/// Knobs of the strategies; each uses those it names in its file under src/routing/.
struct RouterParams {
  int top_k = 2;                       ///< K, 1..E
  bool norm_topk = true;               ///< renormalise a token's K weights to sum to 1
  float temperature = 1.0f;            ///< > 0 (softk, sinkhorn)
  int n_group = 1;                     ///< expert groups; divides E
  int topk_group = 1;                  ///< groups kept, 1..n_group
  float routed_scaling_factor = 1.0f;  ///< multiplies the weights
  std::uint64_t seed = 17;             ///< of strategies that draw random numbers
  int sinkhorn_iters = 10;             ///< rounds of balancing of sinkhorn, 1..10000
  double choice_capacity = 1.0;        ///< expert_choice: ceil(this * T * K / E) tokens each; > 0
  float noise_std = 1.0f;              ///< of noisy_topk without noise_logits; 0..1e6
  int slots_per_expert = 1;            ///< p of soft_moe, 1..2^20
};

/// Work done inside a strategy's pass over the tokens, by the layer and the bench:
/// src/routing/fusion.h.
struct Fusion;

/// What a strategy sees.
struct RouterInput {
  ConstMatrixView logits;                   ///< [T, E] f32
  std::span<const float> bias;              ///< [E] selection bias, or empty for none
  std::span<const std::int64_t> token_ids;  ///< [T] vocabulary ids, or empty: positions are used
  /// [T, E] f32, finite: noisy_topk's noise has standard deviation softplus(this); or no data.
  ConstMatrixView noise_logits = {};
  const Fusion* fusion = nullptr;  ///< the library's own: leave it null
};

/// What the losses (losses.h) take as the probability p[t, e] of expert e for token t.
///   softmax  exp(x[t, e]) over its sum over the experts
///   sigmoid  sigmoid(x[t, e]), without the bias, over its sum over the experts (DeepSeek-V3)
enum class Affinity { softmax, sigmoid };

/// What a layer does that mixes tokens rather than send them (Puigcerver et al. 2023,
/// arXiv 2308.00951): expert e has p slots, e*p .. e*p+p-1 of S = E*p; each slot is a weighted mean
/// of all tokens, each output a weighted mean of all slots' outputs.
struct SoftRouting {
  std::int64_t num_tokens = 0;  ///< T
  int num_experts = 0;          ///< E
  int slots_per_expert = 0;     ///< p
  std::vector<float> dispatch;  ///< [S, T], a row sums to 1
  std::vector<float> combine;   ///< [T, S], a row sums to 1

  std::int64_t num_slots() const noexcept { return std::int64_t{num_experts} * slots_per_expert; }
};

/// A routing rule: `route`, or `route_soft` where it mixes. Both may assume validated input and
/// overwrite their result, reusing its memory.
struct Strategy {
  std::string name;     ///< the CLI's spelling
  std::string summary;  ///< one line for help
  std::string source;   ///< paper or model
  bool causal = true;   ///< a token's experts and weights do not depend on later tokens
  void (*route)(Context&, const RouterInput&, const RouterParams&, Routing& routing) = nullptr;
  Affinity affinity = Affinity::softmax;  ///< sigmoid where the scores are sigmoids
  std::string knobs = {};                 ///< the fields of RouterParams it uses, separated by ", "
  void (*route_soft)(Context&, const RouterInput&, const RouterParams&,
                     SoftRouting& routing) = nullptr;

  bool is_soft() const noexcept { return route_soft != nullptr; }
  bool fuses = false;  ///< `route` walks its tokens with for_token_blocks (src/routing/select.h)
};

/// The strategies a program knows: a value, so that a program adds its own to a copy.
class StrategyRegistry {
 public:
  /// The strategies of src/routing/strategies.inc, in that order.
  static StrategyRegistry builtin();

  /// Throws Error(invalid_argument) when the name is empty or taken, or not one of `route` and
  /// `route_soft` is given.
  void add(Strategy strategy);

  /// Throws Error(invalid_argument) that lists the names and suggests the nearest.
  const Strategy& find(std::string_view name) const;

  std::span<const Strategy> all() const noexcept { return strategies_; }

 private:
  std::vector<Strategy> strategies_;
};

/// Routes T tokens: validates the shapes, the parameters and the logits, runs the strategy.
/// Logits: +inf wins over every finite logit, several +inf share the probability equally; -inf has
/// probability 0 and is chosen only when nothing else is left; NaN throws
/// Error(invalid_argument) naming token and expert, as does a row that is all -inf. Ties go to the
/// lower expert index. Assignments of a token are ordered by falling selection score. Where experts
/// choose (expert_choice) a token may have none.
/// Throws Error(invalid_argument) for a strategy that mixes.
void route(Context& context, const Strategy& strategy, const RouterInput& input,
           const RouterParams& params, Routing& routing);

/// The same for a strategy that mixes: logits are [T, S], S a multiple of params.slots_per_expert;
/// a logit of +inf shares the weight equally with the others of its row or column. A column that
/// is all -inf throws as a row does. bias, token_ids and top_k are not used.
void route_soft(Context& context, const Strategy& strategy, const RouterInput& input,
                const RouterParams& params, SoftRouting& routing);

}  // namespace switchyard
