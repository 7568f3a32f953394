#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <span>

#include "base/context.h"
#include "routing/fusion.h"
#include "switchyard/routing.h"
#include "topk/topk.h"

// What the strategies share: the shape of a top-k routing, and the walk over blocks of tokens that
// calls the top-k kernel on every thread.

namespace switchyard {

/// Rows a kernel call covers: enough to hide the call, few enough for the stack and L1.
inline constexpr int kBlockTokens = 64;

inline const float* logits_of(const RouterInput& input, std::int64_t token) noexcept {
  return reinterpret_cast<const float*>(input.logits.row(token));
}

/// Gives every token k assignments; experts and weights are left to be written.
void shape_top_k(const RouterInput& input, int k, Routing& routing);

/// The same but for token_begin, which set_token_begins writes for tokens [begin, end).
void resize_top_k(const RouterInput& input, int k, Routing& routing);
void set_token_begins(Routing& routing, std::int64_t begin, std::int64_t end, int k) noexcept;

/// Weights of a token that sum to 1.
inline constexpr TopkShare kShareOfOne = {.epsilon = 0.0f, .factor = 1.0f};

/// Tokens [begin, begin + count) after selection.
struct Block {
  std::int64_t begin;
  int count;
  int k;
  std::int32_t* expert;                ///< [count, k], falling
  float* weight;                       ///< [count, k], exp((x - max) * scale)
  const float* max;                    ///< [count]
  const float* sum;                    ///< [count] of exp((x - max) * scale) over all experts
  const TopkShare* share = nullptr;    ///< what becomes of the weights then, or null
  std::int32_t* num_chosen = nullptr;  ///< [E] grows by what is selected, or null
};

/// The earliest token that a thread could not route.
class FirstBad {
 public:
  void note(std::int64_t token) noexcept {
    std::int64_t seen = token_.load(std::memory_order_relaxed);
    while (token < seen && !token_.compare_exchange_weak(seen, token, std::memory_order_relaxed)) {
    }
  }
  /// Throws Error(invalid_argument) that says what is wrong with that token's logits.
  void throw_if_any(const RouterInput& input) const;

 private:
  std::atomic<std::int64_t> token_{std::numeric_limits<std::int64_t>::max()};
};

/// Selects on the logits of block.begin.. and checks them; where the largest is +inf, exp counts 1
/// for +inf and 0 for the rest. Returns the block's first token whose logits hold a NaN or nothing
/// above -inf, or -1. max and sum are [kBlockTokens]; a null sum is not computed.
std::int64_t select_block(TopkKernel topk, const RouterInput& input, float scale, Block& block,
                          float* max, float* sum) noexcept;

/// Who adds a block's experts to the counts that input.fusion may ask for.
enum class Counting { by_pass, by_route_block };

/// Calls route_block(begin, count, thread) on blocks of at most `block` tokens, in parallel, which
/// writes their k experts and weights into `routing` and returns the first token it could not
/// route, or -1. Does what input.fusion asks for around it. Throws as FirstBad.
/// Counting::by_route_block: route_block(begin, count, thread, num_chosen) adds them to
/// num_chosen[E] unless that is null.
template <Counting kCounting = Counting::by_pass, class RouteBlock>
void for_token_blocks(Context& context, const RouterInput& input, int k, int block,
                      Routing& routing, RouteBlock&& route_block) {
  resize_top_k(input, k, routing);
  FusedPass fused(context, input, k, block);
  FirstBad bad;
  pool_of(context).for_ranges(
      input.logits.rows, block, [&](std::int64_t begin, std::int64_t end, int thread) {
        // A block late: experts that were just written to memory that no cache holds cannot be read
        // before their lines are there.
        const auto after = [&](std::int64_t t) {
          const int count = static_cast<int>(std::min<std::int64_t>(block, end - t));
          fused.after(count, routing.expert.data() + t * k, thread);
        };
        for (std::int64_t t = begin; t < end; t += block) {
          const int count = static_cast<int>(std::min<std::int64_t>(block, end - t));
          fused.before(t, end, thread);
          set_token_begins(routing, t, t + count, k);
          std::int64_t token;
          if constexpr (kCounting == Counting::by_route_block) {
            token = route_block(t, count, thread, fused.counts_of(thread));
          } else {
            token = route_block(t, count, thread);
          }
          if (token >= 0) return bad.note(token);
          if (kCounting == Counting::by_pass && t > begin) after(t - block);
        }
        if (kCounting == Counting::by_pass) after(begin + (end - begin - 1) / block * block);
      });
  bad.throw_if_any(input);
  fused.done();
}

/// Selects the k largest logits of every token into `routing`, weighs them by `share` where it is
/// not null, then calls finish(block) on each block, in parallel.
template <class Finish>
void select_top_k(Context& context, const RouterInput& input, int k, float scale, bool want_sum,
                  const TopkShare* share, Routing& routing, Finish finish) {
  const TopkKernel topk = topk_variant(context.isa()).topk;
  const auto select = [&](std::int64_t t, int count, int, std::int32_t* num_chosen) {
    float max[kBlockTokens], sum[kBlockTokens];
    Block block{.begin = t,
                .count = count,
                .k = k,
                .expert = routing.expert.data() + t * k,
                .weight = routing.weight.data() + t * k,
                .max = max,
                .sum = sum,
                .share = share,
                .num_chosen = num_chosen};
    const std::int64_t token =
        select_block(topk, input, scale, block, max, want_sum ? sum : nullptr);
    if (token < 0) finish(block);
    return token;
  };
  for_token_blocks<Counting::by_route_block>(context, input, k, kBlockTokens, routing, select);
}

/// Where a token's largest logit is +inf, exp counts 1 for +inf and 0 for the rest.
void weigh_infinite(const RouterInput& input, const Block& block) noexcept;

/// Turns exponentials into probabilities over all experts, times `factor`.
void divide_by_sum(const Block& block, float factor) noexcept;

/// Divides each token's k weights by their sum + epsilon, times `factor`.
void normalise(float* weight, std::int64_t num_tokens, int k, float epsilon, float factor) noexcept;

/// Throws as route() does for NaN and for a token whose logits are all -inf: for strategies that do
/// not look at the logits otherwise.
void check_logits(Context& context, const RouterInput& input);

}  // namespace switchyard
