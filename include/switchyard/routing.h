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
  float temperature = 1.0f;            ///< > 0
  int n_group = 1;                     ///< expert groups; divides E
  int topk_group = 1;                  ///< groups kept, 1..n_group
  float routed_scaling_factor = 1.0f;  ///< multiplies the weights
  std::uint64_t seed = 17;             ///< of strategies that draw random numbers
};

/// What a strategy sees.
struct RouterInput {
  ConstMatrixView logits;                   ///< [T, E] f32
  std::span<const float> bias;              ///< [E] selection bias, or empty for none
  std::span<const std::int64_t> token_ids;  ///< [T] vocabulary ids, or empty: positions are used
};

/// What the losses (losses.h) take as the probability p[t, e] of expert e for token t.
///   softmax  exp(x[t, e]) over its sum over the experts
///   sigmoid  sigmoid(x[t, e]), without the bias, over its sum over the experts (DeepSeek-V3)
enum class Affinity { softmax, sigmoid };

/// A routing rule. `route` may assume validated input and overwrites `routing`, reusing its memory.
struct Strategy {
  std::string name;     ///< the CLI's spelling
  std::string summary;  ///< one line for help
  std::string source;   ///< paper or model
  bool causal = true;   ///< a token's experts do not depend on later tokens
  void (*route)(Context&, const RouterInput&, const RouterParams&, Routing& routing) = nullptr;
  Affinity affinity = Affinity::softmax;  ///< sigmoid where the scores are sigmoids
};

/// The strategies a program knows: a value, so that a program adds its own to a copy.
class StrategyRegistry {
 public:
  /// The strategies of src/routing/strategies.inc, in that order.
  static StrategyRegistry builtin();

  /// Throws Error(invalid_argument) when the name is empty or taken, or `route` is null.
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
/// lower expert index. Assignments of a token are ordered by falling selection score.
void route(Context& context, const Strategy& strategy, const RouterInput& input,
           const RouterParams& params, Routing& routing);

}  // namespace switchyard
